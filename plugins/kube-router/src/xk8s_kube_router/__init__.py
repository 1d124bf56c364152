"""kube-router: nodes tell each other their pods' ranges by BGP; NetworkPolicy by iptables."""

# kubectl typed in the VM just works.
export KUBECONFIG=/etc/kubernetes/root.conf
alias k=kubectl

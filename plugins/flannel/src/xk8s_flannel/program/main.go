// flanneld with what a cluster of VMs can use of it: the subnets of the Kubernetes nodes, and the
// backends that need no cloud and no C compiler. All of it is flannel's own packages.
//
// The flags are those of flanneld that the unit uses, so that a flanneld of one's own can take its
// place.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/alloc"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/ipip"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	_ "github.com/flannel-io/flannel/pkg/backend/wireguard"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/flannel-io/flannel/pkg/version"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	log "k8s.io/klog/v2"
)

const annotations = "flannel.alpha.coreos.com"

type options struct {
	kubeSubnetMgr bool
	kubeconfig    string
	netConf       string
	iface         string
	subnetFile    string
	ipMasq        bool
	resync        int
	version       bool
}

func main() {
	var opts options
	flag.BoolVar(&opts.kubeSubnetMgr, "kube-subnet-mgr", true, "the subnets are those of the Kubernetes nodes (always)")
	flag.StringVar(&opts.kubeconfig, "kubeconfig-file", "", "who it is to the API server")
	flag.StringVar(&opts.netConf, "net-config-path", "/etc/kube-flannel/net-conf.json", "network configuration")
	flag.StringVar(&opts.iface, "iface", "", "interface to the other nodes")
	flag.StringVar(&opts.subnetFile, "subnet-file", "/run/flannel/subnet.env", "what the CNI plugin reads")
	flag.BoolVar(&opts.ipMasq, "ip-masq", false, "masquerade what leaves the pods' network")
	flag.IntVar(&opts.resync, "iptables-resync", 5, "seconds between looks at the iptables rules")
	flag.BoolVar(&opts.version, "version", false, "print the version and exit")
	log.InitFlags(nil)
	flag.Parse()
	if opts.version {
		fmt.Println(version.Version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, stop, opts); err != nil {
		log.Error(err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stop context.CancelFunc, opts options) error {
	if !opts.kubeSubnetMgr {
		return fmt.Errorf("this flanneld has no etcd subnet manager")
	}
	if err := waitForRange(ctx, opts.kubeconfig); err != nil {
		return fmt.Errorf("the node's range of pods: %w", err)
	}
	manager, err := kube.NewSubnetManager(ctx, "", opts.kubeconfig, annotations, opts.netConf, true)
	if err != nil {
		return fmt.Errorf("subnets of the nodes: %w", err)
	}
	config, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", opts.netConf, err)
	}
	family, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return fmt.Errorf("%s: %w", opts.netConf, err)
	}
	external, err := ipmatch.LookupExtIface(opts.iface, "", "", family, ipmatch.PublicIPOpts{})
	if err != nil {
		return fmt.Errorf("interface %q: %w", opts.iface, err)
	}
	chosen, err := backend.NewManager(ctx, manager, external).GetBackend(config.BackendType)
	if err != nil {
		return fmt.Errorf("backend %q: %w", config.BackendType, err)
	}
	var group sync.WaitGroup
	network, err := chosen.RegisterNetwork(ctx, &group, config)
	if err != nil {
		return fmt.Errorf("backend %q: %w", config.BackendType, err)
	}
	if err := rules(ctx, opts, config, network); err != nil {
		return err
	}
	lease := network.Lease()
	if err := manager.HandleSubnetFile(
		opts.subnetFile, config, opts.ipMasq, lease.Subnet, lease.IPv6Subnet, network.MTU(),
	); err != nil {
		return fmt.Errorf("%s: %w", opts.subnetFile, err)
	}
	group.Add(1)
	go func() {
		defer group.Done()
		network.Run(ctx)
	}()
	log.Infof("%s: %s %s, MTU %d", config.BackendType, lease.Subnet, lease.IPv6Subnet, network.MTU())
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Errorf("systemd: %v", err)
	}
	// Returns when the process is told to end.
	err = manager.CompleteLease(ctx, lease, &group)
	if ctx.Err() == nil && err != nil {
		stop()
		return fmt.Errorf("lease: %w", err)
	}
	group.Wait()
	return nil
}

// waitForRange asks for the own Node once a second until it is there and has a range, and until the
// API server lets us see it: what flannel's packages do meanwhile is to wait longer each time.
func waitForRange(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for last := ""; ; {
		node, err := client.CoreV1().Nodes().Get(ctx, os.Getenv("NODE_NAME"), metav1.GetOptions{})
		if err == nil && node.Spec.PodCIDR != "" {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("node %s has none yet", node.Name)
		}
		if err.Error() != last {
			last = err.Error()
			log.Info("waits for the node's range of pods: ", last)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// rules makes those of the firewall in nftables or iptables, and takes away what an earlier choice
// left in the other.
func rules(ctx context.Context, opts options, config *subnet.Config, network backend.Network) error {
	var chosen, other trafficmngr.TrafficManager = &iptables.IPTablesManager{}, &nftables.NFTablesManager{}
	if config.EnableNFTables {
		chosen, other = other, chosen
	}
	if err := other.CleanUp(ctx); err != nil {
		return fmt.Errorf("rules of an earlier run: %w", err)
	}
	if err := chosen.Init(ctx); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	if opts.ipMasq {
		none, none6 := ip.IP4Net{}, ip.IP6Net{IP: new(ip.IP6)}
		if err := chosen.SetupAndEnsureMasqRules(ctx,
			config.Network, none, none, config.IPv6Network, none6, none6,
			network.Lease(), opts.resync, false); err != nil {
			return fmt.Errorf("masquerading: %w", err)
		}
	}
	chosen.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, opts.resync)
	return nil
}

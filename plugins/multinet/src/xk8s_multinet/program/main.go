// multinet: a CNI plugin that stands in a configuration list behind the one that gives a pod its
// eth0, and gives the pod an interface net1, net2 … for each network that its annotation names.
//
// The interfaces are made by other plugins (delegates): network NAME is the CNI configuration
// NAME.conf in the directory confDir. What was made is written down, as container runtimes do it,
// so that it is taken away by the configuration that it was made with.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// config is this plugin's part of the list, as the runtime completes it.
type config struct {
	types.PluginConf
	// Where the networks are, and where what was attached is written down.
	ConfDir  string `json:"confDir"`
	StateDir string `json:"stateDir"`
	Runtime  struct {
		// Runtimes give them to plugins that have the capability of this name.
		Annotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`
	} `json:"runtimeConfig"`
}

// attachment is an interface of a pod: the network's configuration, and what the runtime says.
type attachment struct {
	network *libcni.PluginConfig
	runtime *libcni.RuntimeConf
}

func main() {
	skel.PluginMainFuncs(
		skel.CNIFuncs{Add: add, Del: del, Check: check},
		version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"),
		"CNI plugin multinet: more interfaces for pods that ask for them",
	)
}

func add(args *skel.CmdArgs) error {
	conf, err := parse(args)
	if err != nil {
		return err
	}
	if conf.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig,
			"multinet has no result before it",
			"it stands behind the plugin that gives a pod its first interface")
	}
	wanted, err := conf.wanted(args)
	if err != nil {
		return err
	}
	cni := conf.delegates()
	for index, one := range wanted {
		if _, err := cni.AddNetwork(context.Background(), one.network, one.runtime); err != nil {
			// The pod is to have nothing of it: also what failed half way.
			for _, made := range slices.Backward(wanted[:index+1]) {
				if undo := cni.DelNetwork(context.Background(), made.network, made.runtime); undo != nil {
					err = fmt.Errorf("%w; then to take it away: %w", err, undo)
				}
			}
			return failed(one, err)
		}
	}
	// The pod's addresses, as others see them, are those of its first interface.
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}

func del(args *skel.CmdArgs) error {
	conf, err := parse(args)
	if err != nil {
		return err
	}
	cni := conf.delegates()
	made, err := attached(cni, args)
	if err != nil {
		return err
	}
	// An ADD that was killed may have made what it did not come to write down. What the annotation
	// says may be wrong, or no longer right: the pod is to go all the same.
	wanted, _ := conf.wanted(args)
	for _, one := range wanted {
		if !slices.ContainsFunc(made, func(other attachment) bool {
			return other.runtime.IfName == one.runtime.IfName
		}) {
			made = append(made, one)
		}
	}
	var problem error
	for _, one := range slices.Backward(made) {
		// The others are to go whether or not this one does; the runtime tries again.
		if err := cni.DelNetwork(context.Background(), one.network, one.runtime); err != nil {
			problem = failed(one, err)
		}
	}
	return problem
}

func check(args *skel.CmdArgs) error {
	conf, err := parse(args)
	if err != nil {
		return err
	}
	wanted, err := conf.wanted(args)
	if err != nil {
		return err
	}
	cni := conf.delegates()
	made, err := attached(cni, args)
	if err != nil {
		return err
	}
	if len(made) != len(wanted) {
		return types.NewError(types.ErrInternal,
			fmt.Sprintf("the pod has %d more interfaces, and asked for %d", len(made), len(wanted)), "")
	}
	for _, one := range made {
		if err := cni.CheckNetwork(context.Background(), one.network, one.runtime); err != nil {
			return failed(one, err)
		}
	}
	return nil
}

func parse(args *skel.CmdArgs) (*config, error) {
	conf := &config{}
	if err := json.Unmarshal(args.StdinData, conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	for key, value := range map[string]string{"confDir": conf.ConfDir, "stateDir": conf.StateDir} {
		if !filepath.IsAbs(value) {
			return nil, types.NewError(types.ErrInvalidNetworkConfig,
				fmt.Sprintf("multinet: %s is to be a path, and is %q", key, value), "")
		}
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	return conf, nil
}

func (conf *config) delegates() *libcni.CNIConfig {
	paths := filepath.SplitList(os.Getenv("CNI_PATH"))
	return libcni.NewCNIConfigWithCacheDir(paths, conf.StateDir, nil)
}

// attached is what was made for the container, by what was written down then.
func attached(cni *libcni.CNIConfig, args *skel.CmdArgs) ([]attachment, error) {
	known, err := cni.GetCachedAttachments(args.ContainerID)
	if err != nil {
		return nil, err
	}
	var found []attachment
	for _, one := range known {
		network, err := libcni.NetworkPluginConfFromBytes(one.Config)
		if err != nil {
			return nil, err
		}
		found = append(found, attachment{network, runtime(args, one.IfName)})
	}
	return found, nil
}

func runtime(args *skel.CmdArgs, name string) *libcni.RuntimeConf {
	// Who the pod is: "K8S_POD_NAME=…;K8S_POD_NAMESPACE=…".
	var pairs [][2]string
	for pair := range strings.SplitSeq(args.Args, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			pairs = append(pairs, [2]string{key, value})
		}
	}
	return &libcni.RuntimeConf{
		ContainerID: args.ContainerID, NetNS: args.Netns, IfName: name, Args: pairs,
	}
}

// failed says which interface it is about. skel would show the delegate's own error alone.
func failed(one attachment, err error) error {
	code := uint(types.ErrInternal)
	var own *types.Error
	if errors.As(err, &own) {
		code = own.Code
	}
	return types.NewError(code,
		fmt.Sprintf("network %q as %s: %v", one.network.Network.Name, one.runtime.IfName, err), "")
}

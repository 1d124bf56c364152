package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// annotation is that of the Network Plumbing Working Group's standard.
const annotation = "k8s.v1.cni.cncf.io/networks"

var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// wanted is what the pod's annotation asks for: net1, net2 … in its order.
func (conf *config) wanted(args *skel.CmdArgs) ([]attachment, error) {
	names, err := parseNames(conf.Runtime.Annotations[annotation])
	if err != nil {
		return nil, err
	}
	var found []attachment
	for index, name := range names {
		network, err := conf.network(name)
		if err != nil {
			return nil, err
		}
		found = append(found, attachment{network, runtime(args, fmt.Sprintf("net%d", index+1))})
	}
	return found, nil
}

// parseNames knows the standard's short form, of that the names alone: "NAME,NAME".
func parseNames(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var names []string
	for word := range strings.SplitSeq(text, ",") {
		name := strings.TrimSpace(word)
		if !label.MatchString(name) {
			return nil, types.NewError(types.ErrInvalidNetworkConfig,
				fmt.Sprintf("annotation %s: %q is not a name of a network", annotation, name),
				"multinet knows NAME,NAME…: no namespaces, no names of interfaces, no JSON")
		}
		names = append(names, name)
	}
	return names, nil
}

// network is the configuration of that name. Only a name that is a label comes here.
func (conf *config) network(name string) (*libcni.PluginConfig, error) {
	text, err := os.ReadFile(filepath.Join(conf.ConfDir, name+".conf"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, types.NewError(types.ErrInvalidNetworkConfig,
			fmt.Sprintf("annotation %s: there is no network %q on this node", annotation, name),
			"there is: "+conf.known())
	}
	if err != nil {
		return nil, types.NewError(types.ErrIOFailure, err.Error(), "")
	}
	network, err := libcni.NetworkPluginConfFromBytes(text)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig,
			fmt.Sprintf("network %q: %v", name, err), "")
	}
	return network, nil
}

func (conf *config) known() string {
	entries, err := os.ReadDir(conf.ConfDir)
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), ".conf"); ok {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

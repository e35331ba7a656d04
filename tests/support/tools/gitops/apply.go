package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// apply does with one object, read as JSON, what Flux's kustomize-controller does in each round, and says what that was: created,
// configured, or unchanged.
func apply(input io.Reader) (string, error) {
	var object unstructured.Unstructured
	if err := json.NewDecoder(input).Decode(&object); err != nil {
		return "", err
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return "", fmt.Errorf("could not read KUBECONFIG: %w", err)
	}
	kubernetes, err := client.New(config, client.Options{})
	if err != nil {
		return "", fmt.Errorf("could not make a client: %w", err)
	}
	owner := ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}
	manager := ssa.NewResourceManager(kubernetes, nil, owner)
	change, err := manager.Apply(context.Background(), &object, ssa.DefaultApplyOptions())
	if err != nil {
		return "", err
	}
	return string(change.Action), nil
}

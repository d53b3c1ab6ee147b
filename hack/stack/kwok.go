// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/digihunch/korthweb/hack/stack/internal/gomod"
)

// kwokModule has kwok's own stages for nodes and pods.
const kwokModule = "sigs.k8s.io/kwok"

var kwokStages = []string{"node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
	"pod/fast/pod-ready.yaml", "pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml"}

// ownStages simulate what this stack has no program for; each file says what.
//
//go:embed stages/*.yaml
var ownStages embed.FS

// certManagerStage is the one that real cert-manager takes the place of.
const certManagerStage = "stages/cert-manager.yaml"

const (
	// nodeCount leaves room for replicas that must be on different nodes.
	nodeCount = 5
	// storageClass is the default StorageClass; stages/volume.yaml names it too.
	storageClass = "standard"
)

// startKwok starts kwok, which plays the kubelets, and creates its nodes.
func (s *Stack) startKwok(ctx context.Context) error {
	config := filepath.Join(s.dir, "kwok.yaml")
	if err := s.writeKwokConfig(ctx, config); err != nil {
		return err
	}
	// It plays kubelets and operators of all sorts; no rights of theirs are under test.
	_, kubeconfig, err := s.UserConfig("kwok", adminGroup)
	if err != nil {
		return err
	}
	addr, err := FreeAddress()
	if err != nil {
		return err
	}
	if err := s.createNodes(ctx); err != nil {
		return err
	}
	return s.runOwn(ctx, Kwok, "http://"+addr+"/healthz",
		"--kubeconfig="+kubeconfig,
		"--config="+config,
		"--manage-all-nodes=true",
		"--server-address="+addr,
		"--node-ip="+loopback,
	)
}

func (s *Stack) writeKwokConfig(ctx context.Context, path string) error {
	modules, err := gomod.Download(ctx, gomod.Programs, kwokModule)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	var docs [][]byte
	for _, name := range kwokStages {
		doc, err := os.ReadFile(filepath.Join(modules[kwokModule].Dir, "kustomize", "stage", name))
		if err != nil {
			return fmt.Errorf("stack: kwok's stage %s: %w", name, err)
		}
		docs = append(docs, doc)
	}
	names, err := fs.Glob(ownStages, "stages/*.yaml")
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	for _, name := range names {
		if name == certManagerStage && s.opts.CertManager {
			continue
		}
		doc, err := ownStages.ReadFile(name)
		if err != nil {
			return fmt.Errorf("stack: %w", err)
		}
		docs = append(docs, doc)
	}
	if err := os.WriteFile(path, bytes.Join(docs, []byte("\n---\n")), 0o600); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	return nil
}

// createNodes creates the nodes, one zone each, and the default StorageClass.
func (s *Stack) createNodes(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	for i := range nodeCount {
		name := fmt.Sprintf("node-%d", i+1)
		room := corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("1000"),
			corev1.ResourceMemory: resource.MustParse("8Ti"),
			corev1.ResourcePods:   resource.MustParse("10000"),
		}
		_, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				corev1.LabelHostname:       name,
				corev1.LabelOSStable:       "linux",
				corev1.LabelArchStable:     "amd64",
				corev1.LabelTopologyZone:   fmt.Sprintf("zone-%d", i+1),
				corev1.LabelTopologyRegion: "local",
			}},
			Status: corev1.NodeStatus{Allocatable: room, Capacity: room},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("stack: Node %s: %w", name, err)
		}
	}
	_, err = client.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        storageClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: "simulated.invalid/volume",
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("stack: StorageClass %s: %w", storageClass, err)
	}
	return nil
}

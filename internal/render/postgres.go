// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// sharedBuffers returns PostgreSQL's shared_buffers: a quarter of the memory that an instance is sure to have
// (https://www.postgresql.org/docs/current/runtime-config-resource.html), PostgreSQL's own default where that is not
// said. CloudNativePG refuses more than the request.
func sharedBuffers(p *v1alpha1.PostgresSpec) string {
	const megabyte, parts = 1 << 20, 4
	memory := resource.MustParse("512Mi")
	if p.Resources != nil {
		if m, ok := p.Resources.Requests[corev1.ResourceMemory]; ok {
			memory = m
		} else if m, ok := p.Resources.Limits[corev1.ResourceMemory]; ok {
			memory = m
		}
	}
	return strconv.FormatInt(max(1, memory.Value()/parts/megabyte), 10) + "MB"
}

// backupPort returns the port of the object store that backups go to.
func backupPort(b *v1alpha1.BackupSpec) int {
	if b != nil && b.Endpoint != "" {
		_, port := b.Endpoint.HostPort()
		return port
	}
	return 443
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// orthanc is a pod of a tenant's Deployment orthanc with its process.
type orthanc struct {
	*pod
	config              map[string]any // as Orthanc reads it
	login, password     string         // the first of the users, by name
	ports               map[int32]int  // by the port in the container, the one on loopback
	httpPort, dicomPort int
	databasePort        int
	running             *process
}

// startOrthanc runs a pod of the tenant's Deployment orthanc until the test is over, and returns when its startup probe
// succeeds. storage is the directory that stands for the volume of claim orthanc-storage, where it has one; suffix
// tells the pods of a Deployment apart.
func (r *rendered) startOrthanc(t *testing.T, suffix, storage string, database *postgres) *orthanc {
	o := r.newOrthanc(t, suffix, storage, database)
	o.start(t)
	return o
}

// newOrthanc makes what startOrthanc runs.
func (r *rendered) newOrthanc(t *testing.T, suffix, storage string, database *postgres) *orthanc {
	g := NewWithT(t)
	o := &orthanc{
		pod: r.newPod(t, "orthanc", suffix, map[string]string{"orthanc-storage": storage}), databasePort: database.port,
		httpPort: freePort(t), dicomPort: freePort(t),
	}
	o.config = o.entryPoint(t)
	o.ports = map[int32]int{o.configuredPort(t, "HttpPort"): o.httpPort, o.configuredPort(t, "DicomPort"): o.dicomPort}
	users, ok := o.config["RegisteredUsers"].(map[string]any)
	g.Expect(ok).To(BeTrue(), "no RegisteredUsers")
	g.Expect(users).NotTo(BeEmpty(), "no RegisteredUsers")
	o.login = slices.Sorted(maps.Keys(users))[0]
	o.password = users[o.login].(string)
	for _, d := range differences {
		d.apply(o)
	}
	data, err := json.MarshalIndent(o.config, "", "  ")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.WriteFile(o.configFile(), data, 0o400)).To(Succeed())
	o.own(t, o.configFile())
	return o
}

func (o *orthanc) configFile() string { return o.path("/tmp/orthanc.json") }

// configuredPort is a port of the configuration, which the container has to declare.
func (o *orthanc) configuredPort(t *testing.T, option string) int32 {
	port, ok := o.config[option].(float64)
	NewWithT(t).Expect(ok).To(BeTrue(), "no %s", option)
	for _, p := range o.container.Ports {
		if p.ContainerPort == int32(port) {
			return p.ContainerPort
		}
	}
	t.Fatalf("%s is %d, which no port of the container is", option, int32(port))
	return 0
}

// start runs Orthanc and returns when the startup probe succeeds.
func (o *orthanc) start(t *testing.T) {
	o.launch(t)
	NewWithT(t).Eventually(func() error {
		if o.running.ended() {
			return StopTrying("Orthanc ended").Wrap(o.running.err)
		}
		return o.probe(o.container.StartupProbe)
	}).WithTimeout(patience).WithPolling(poll).Should(Succeed(), o.running.tail)
}

// launch runs Orthanc and returns at once.
func (o *orthanc) launch(t *testing.T) {
	cmd := exec.Command(programs["Orthanc"], o.configFile())
	cmd.Dir = o.root
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	for name, value := range o.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	o.running = startProcess(t, cmd, filepath.Join(o.root, "log"), o.user, o.group)
}

// stop ends Orthanc as a kubelet does.
func (o *orthanc) stop(t *testing.T) {
	g := NewWithT(t)
	began := time.Now()
	g.Expect(o.running.end(syscall.SIGTERM)).To(Succeed())
	g.Expect(o.running.err).NotTo(HaveOccurred(), o.running.tail)
	grace := time.Duration(*o.spec.TerminationGracePeriodSeconds) * time.Second
	g.Expect(time.Since(began)).To(BeNumerically("<", grace), "a kubelet would have killed it")
}

// probe does once what a kubelet does for a probe of the container.
func (o *orthanc) probe(p *corev1.Probe) error {
	timeout := time.Duration(p.TimeoutSeconds) * time.Second
	switch {
	case p.TCPSocket != nil:
		port, err := o.port(p.TCPSocket.Port)
		if err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), timeout)
		if err != nil {
			return err
		}
		return c.Close()
	case p.Exec != nil && slices.Equal(p.Exec.Command, []string{"/probes/test-aliveness.py"}):
		// The script is in the image, not here. It asks for the newest change, which is in the database, with the
		// first of the configuration's users (github.com/orthanc-server/orthanc-builder, docker/orthanc).
		status, _, err := o.request(timeout, http.MethodGet, "/changes?last", nil, o.login, o.password)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/changes?last answers %d", status)
		}
		return err
	}
	return fmt.Errorf("the test does not know how a kubelet does this probe: %v", p.ProbeHandler)
}

// port is the one on loopback for a port of the container.
func (o *orthanc) port(p intstr.IntOrString) (int, error) {
	for _, c := range o.container.Ports {
		if c.Name == p.StrVal || c.ContainerPort == p.IntVal {
			return o.ports[c.ContainerPort], nil
		}
	}
	return 0, errors.New("the container has no port " + p.String())
}

// request asks Orthanc's HTTP server, without credentials where user is empty.
func (o *orthanc) request(timeout time.Duration, method, path string, body []byte, user, password string) (int, []byte, error) {
	req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", o.httpPort, path), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	client := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// ask sends a request as the configured user, which has to succeed, and decodes the JSON of its answer.
func (o *orthanc) ask(t *testing.T, method, path, body string, into any) {
	g := NewWithT(t)
	g.Expect(json.Unmarshal(o.fetch(t, method, path, body), into)).To(Succeed(), path)
}

// fetch sends a request as the configured user, which has to succeed, and returns its answer.
func (o *orthanc) fetch(t *testing.T, method, path, body string) []byte {
	g := NewWithT(t)
	status, data, err := o.request(patience, method, path, []byte(body), o.login, o.password)
	g.Expect(err).NotTo(HaveOccurred(), path)
	g.Expect(status).To(Equal(http.StatusOK), "%s: %s\n%s", path, data, o.running.tail())
	return data
}

// instances returns the SOP instance UIDs of what a study has in Orthanc, sorted.
func (o *orthanc) instances(t *testing.T, s study) []string {
	var found []struct {
		MainDicomTags struct{ SOPInstanceUID string }
	}
	o.ask(t, http.MethodPost, "/tools/find",
		fmt.Sprintf(`{"Level": "Instance", "Expand": true, "Query": {"StudyInstanceUID": %q}}`, s.uid), &found)
	uids := []string{}
	for _, f := range found {
		uids = append(uids, f.MainDicomTags.SOPInstanceUID)
	}
	slices.Sort(uids)
	return uids
}

// stored are the files under the storage directory.
func stored(t *testing.T, dir string) []string {
	files := []string{}
	NewWithT(t).Expect(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, dir))
		}
		return err
	})).To(Succeed())
	return files
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import "strconv"

const pluginDir = "/usr/share/orthanc/plugins/"

// differences are all changes that the tests make to what a pod of the real image runs with. Each is applied to the
// configuration that the image would have put together, and to the environment of its container.
//
// Rendered as it is, and without effect here: options that Debian's Orthanc 1.10.1 and PostgreSQL plugin 4.0 do not
// know yet, which they pass over, such as TransactionMode (that plugin's transactions are serializable) and
// OrthancExplorerEnabled; the file /etc/hostid, which the C library looks for in its real place; and hooks for the
// end of a pod.
var differences = []struct {
	what, why string
	apply     func(*orthanc)
}{
	{
		"ports", "all pods share this machine's loopback, where a port can be used once",
		func(o *orthanc) { o.config["HttpPort"], o.config["DicomPort"] = o.httpPort, o.dicomPort },
	},
	{
		"paths", "there is no container: what it mounts is under a directory of the test",
		func(o *orthanc) {
			o.config = o.relocated(o.config).(map[string]any)
			for name, value := range o.env {
				o.env[name] = o.relocated(value).(string)
			}
		},
	},
	{
		"address of the database", "there is no cluster DNS: libpq connects to loopback, and still expects the rendered " +
			"host in the server's certificate",
		func(o *orthanc) { o.env["PGHOSTADDR"], o.env["PGPORT"] = "127.0.0.1", strconv.Itoa(o.databasePort) },
	},
	{
		"hosts of modalities", "they are programs on this machine, which a Tenant may not name",
		func(o *orthanc) {
			modalities, _ := o.config["DicomModalities"].(map[string]any)
			for _, m := range modalities {
				m.(map[string]any)["Host"] = "127.0.0.1"
			}
		},
	},
	{
		"plugins", "the image links those that are switched on into a directory that its Orthanc loads; Debian has them " +
			"in another one, and has no other than these",
		func(o *orthanc) {
			on := func(section, variable string) bool {
				value, set := o.env[variable]
				return value != "false" && (set || o.config[section] != nil)
			}
			files := []any{}
			if on("PostgreSQL", "POSTGRESQL_PLUGIN_ENABLED") {
				files = append(files, pluginDir+"libOrthancPostgreSQLIndex.so", pluginDir+"libOrthancPostgreSQLStorage.so")
			}
			if on("DicomWeb", "DICOM_WEB_PLUGIN_ENABLED") {
				files = append(files, pluginDir+"libOrthancDicomWeb.so")
			}
			o.config["Plugins"] = files
		},
	},
}

// relocated returns a value with the container's paths, where they are in a volume, as paths on this machine.
func (p *pod) relocated(value any) any {
	switch v := value.(type) {
	case string:
		if p.mounted(v) {
			return p.path(v)
		}
	case []any:
		for i := range v {
			v[i] = p.relocated(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = p.relocated(v[key])
		}
	}
	return value
}

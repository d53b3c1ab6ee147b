// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/tenant"
)

// byFacility loads a tenant whose own file sets a configuration, byClass one whose class does.
func byFacility(t *testing.T, config string) *tenant.Result {
	return load(t, files{"tenants/x.yaml": simple("x", "orthanc: {config: "+config+"}")})
}

func byClass(t *testing.T, config string) *tenant.Result {
	return load(t, files{"tenants/x.yaml": simple("x", "className: c"), "tenants/classes/c.yaml": class("c", "orthanc: {config: "+config+"}")})
}

// TestConfigKeys holds that the configuration has only options that Orthanc has and that Korthweb does not set, that a
// facility's own file has those alone that are safe, and that each is of its type and within its bounds.
func TestConfigKeys(t *testing.T) {
	const at = "spec.orthanc.config"
	for name, tc := range map[string]struct{ config, field, text string }{
		"a list":                       {"[1]", at, "object"},
		"an option of Korthweb's":      {"{AuthenticationEnabled: false}", at + "[AuthenticationEnabled]", "no option that may be set here"},
		"in other letters":             {"{authenticationENABLED: false}", at + "[authenticationENABLED]", "no option that may be set here"},
		"a safe one in other letters":  {"{stableAGE: 60}", at + "[stableAGE]", "did you mean StableAge?"},
		"by a mistake":                 {"{StabelAge: 60}", at + "[StabelAge]", "did you mean StableAge?"},
		"users":                        {"{RegisteredUsers: {a: b}}", at + "[RegisteredUsers]", "usersSecretRef"},
		"the name":                     {"{Name: x}", at + "[Name]", "it is spec.displayName"},
		"modalities":                   {"{DicomModalities: {}}", at + "[DicomModalities]", "they are spec.orthanc.modalities"},
		"anybody may store":            {"{DicomAlwaysAllowStore: true}", at + "[DicomAlwaysAllowStore]", "no option"},
		"a listener":                   {"{HttpBindAddresses: [0.0.0.0]}", at + "[HttpBindAddresses]", "no option"},
		"a port":                       {"{HttpPort: 80}", at + "[HttpPort]", "no option"},
		"scripts":                      {"{LuaScripts: [/tmp/x.lua]}", at + "[LuaScripts]", "no option"},
		"Python":                       {"{PythonScript: /tmp/x.py}", at + "[PythonScript]", "no option"},
		"scripts by REST":              {"{ExecuteLuaEnabled: true}", at + "[ExecuteLuaEnabled]", "no option"},
		"files by REST":                {"{RestApiWriteToFileSystemEnabled: true}", at + "[RestApiWriteToFileSystemEnabled]", "no option"},
		"files of the pod":             {"{ServeFolders: {x: /}}", at + "[ServeFolders]", "no option"},
		"dictionaries of the pod":      {"{ExternalDictionaries: [/run/secrets/users.json]}", at + "[ExternalDictionaries]", "no option"},
		"other directories":            {"{StorageDirectory: /scratch}", at + "[StorageDirectory]", "it is spec.orthanc.storage"},
		"images that are not kept":     {"{StoreDicom: false}", at + "[StoreDicom]", "no option"},
		"credentials":                  {"{Pkcs11: {Module: /lib/x.so}}", at + "[Pkcs11]", "no option"},
		"peers":                        {"{OrthancPeers: {}}", at + "[OrthancPeers]", "no option"},
		"what nobody knows":            {"{Stage: dev}", at + "[Stage]", "no option that may be set here"},
		"another plugin":               {"{Authorization: {}}", at + "[Authorization]", "no option"},
		"a plugin without options":     {"{OHIF: {UserConfiguration: /proc/self/environ}}", at + "[OHIF]", "no option"},
		"a file of the pod":            {"{OrthancExplorer2: {CustomCssPath: /proc/self/environ}}", at + "[OrthancExplorer2].CustomCssPath", "no option"},
		"another host":                 {"{OrthancExplorer2: {CustomLogoUrl: 'https://evil.example'}}", at + "[OrthancExplorer2].CustomLogoUrl", "no option"},
		"another host, deeper":         {"{OrthancExplorer2: {UiOptions: {OhifViewer3PublicRoot: 'https://evil.example/'}}}", at + "[OrthancExplorer2].UiOptions.OhifViewer3PublicRoot", "no option"},
		"a login elsewhere":            {"{OrthancExplorer2: {Keycloak: {Enable: true}}}", at + "[OrthancExplorer2].Keycloak", "no option"},
		"servers":                      {"{DicomWeb: {Servers: {x: [a, b, c]}}}", at + "[DicomWeb].Servers", "no option"},
		"a nested one by a mistake":    {"{DicomWeb: {StudyMetadata: Full}}", at + "[DicomWeb].StudyMetadata", "did you mean StudiesMetadata?"},
		"a section that is none":       {"{DicomWeb: 1}", at + "[DicomWeb]", "must be an object"},
		"a section that is null":       {"{DicomWeb: null}", at + "[DicomWeb]", "must be an object"},
		"a section without its plugin": {"{StoneWebViewer: {DateFormat: DD/MM/YYYY}}", at + "[StoneWebViewer]", "list that in spec.orthanc.plugins"},
		"text for a number":            {"{StableAge: '60'}", at + "[StableAge]", "a whole number from 1 to 86400"},
		"not a whole number":           {"{StableAge: 1.5}", at + "[StableAge]", "a whole number"},
		"never stable":                 {"{StableAge: 1000000000}", at + "[StableAge]", "a whole number from 1 to 86400"},
		"below zero":                   {"{MaximumStorageSize: -1}", at + "[MaximumStorageSize]", "a whole number from 0"},
		"a number for a flag":          {"{CaseSensitivePN: 1}", at + "[CaseSensitivePN]", "true or false"},
		"a text for a flag":            {"{StrictAetComparison: 'yes'}", at + "[StrictAetComparison]", "true or false"},
		"no such encoding":             {"{DefaultEncoding: EBCDIC}", at + "[DefaultEncoding]", "Utf8"},
		"a path for a UID":             {"{DicomScuPreferredTransferSyntax: ../x}", at + "[DicomScuPreferredTransferSyntax]", "a UID"},
		"a list of paths":              {"{AcceptedTransferSyntaxes: [/etc/passwd]}", at + "[AcceptedTransferSyntaxes]", "a UID"},
		"an object for a list":         {"{AcceptedSopClasses: {a: b}}", at + "[AcceptedSopClasses]", "a list"},
		"a mapping of paths":           {"{UserMetadata: {../x: 1024}}", at + "[UserMetadata]", "an object"},
		"a reserved metadata":          {"{UserMetadata: {x: 1}}", at + "[UserMetadata]", "from 1024 to 65535"},
		"no tag":                       {"{Dictionary: {'../../x': [DA, x]}}", at + "[Dictionary]", "an object"},
		"an object in an entry":        {"{Dictionary: {'0014,1020': [{a: b}]}}", at + "[Dictionary]", "an object"},
		"patients that go":             {"{MaximumStorageSize: 1000}", at + "[MaximumStorageSize]", "delete the patients"},
		"patients that go, in words":   {"{MaximumPatientCount: 5, MaximumStorageMode: Recycle}", at + "[MaximumStorageMode]", "must be Reject"},
		"a variable as a key":          {"{'${PGPASSWORD}': 1}", at + "[${PGPASSWORD}]", "no option"},
		"a variable as a value":        {"{DefaultPrivateCreator: '${PGPASSWORD}'}", at + "[DefaultPrivateCreator]", "letters"},
		"more than there may be":       {"{DefaultPrivateCreator: " + strings.Repeat("x", 64<<10) + "}", at, "65536"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			for author, r := range map[string]*tenant.Result{"facility": byFacility(t, tc.config), "class": byClass(t, tc.config)} {
				switch {
				case author == "class" && tc.config == "{DicomWeb: null}":
					g.Expect(r.Problems).To(BeEmpty()) // nothing to take out
					continue
				case author == "facility" && strings.HasPrefix(tc.text, "65536"):
					g.Expect(problemFields(r)).To(Equal([]string{at + "[DefaultPrivateCreator]"}))
					continue
				}
				g.Expect(r.Definitions).To(BeEmpty(), author)
				g.Expect(problemFields(r)).To(ContainElement(tc.field), author)
				g.Expect(r.Problems[0].File).To(MatchRegexp(`^tenants/(x|classes/c)\.yaml:[0-9]+$`))
				var messages []string
				for _, p := range r.Problems {
					messages = append(messages, p.Message)
				}
				g.Expect(messages).To(ContainElement(ContainSubstring(tc.text)), author)
			}
		})
	}
}

// TestConfigOfClass holds which options are a class's alone, and that a facility cannot set, replace or take them out.
func TestConfigOfClass(t *testing.T) {
	for name, tc := range map[string]struct{ config, field string }{
		"a proxy":        {"{HttpProxy: 'proxy.example.com:3128'}", "spec.orthanc.config[HttpProxy]"},
		"taken out":      {"{HttpProxy: null}", "spec.orthanc.config[HttpProxy]"},
		"memory":         {"{MaximumStorageCacheSize: 1024}", "spec.orthanc.config[MaximumStorageCacheSize]"},
		"threads":        {"{HttpThreadsCount: 100}", "spec.orthanc.config[HttpThreadsCount]"},
		"jobs":           {"{ConcurrentJobs: 4}", "spec.orthanc.config[ConcurrentJobs]"},
		"files":          {"{HttpsCACertificates: /etc/ssl/certs/ca-certificates.crt}", "spec.orthanc.config[HttpsCACertificates]"},
		"logs":           {"{DeidentifyLogs: false}", "spec.orthanc.config[DeidentifyLogs]"},
		"sizes":          {"{DicomWeb: {StowMaxSize: 500}}", "spec.orthanc.config[DicomWeb].StowMaxSize"},
		"addresses":      {"{DicomWeb: {PublicRoot: /dicom-web/}}", "spec.orthanc.config[DicomWeb].PublicRoot"},
		"lossy on entry": {"{IngestTranscoding: 1.2.840.10008.1.2.4.50}", "spec.orthanc.config[IngestTranscoding]"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := byFacility(t, tc.config)
			g.Expect(r.Definitions).To(BeEmpty())
			g.Expect(problemFields(r)).To(Equal([]string{tc.field}))
			g.Expect(r.Problems[0].File).To(Equal("tenants/x.yaml:7"))
			g.Expect(byClass(t, tc.config).Problems).To(BeEmpty())
		})
	}
	g := NewWithT(t)
	set := class("c", "orthanc: {config: {HttpProxy: 'proxy.example.com:3128', StableAge: 90, DicomWeb: {PublicRoot: /x/}}}")
	for config, field := range map[string]string{
		"null":                           "spec.orthanc.config",
		"[]":                             "spec.orthanc.config",
		"{DicomWeb: null}":               "spec.orthanc.config[DicomWeb]",
		"{DicomWeb: {PublicRoot: null}}": "spec.orthanc.config[DicomWeb].PublicRoot",
	} {
		r := load(t, files{"tenants/classes/c.yaml": set, "tenants/x.yaml": simple("x", "className: c", "orthanc: {config: "+config+"}")})
		g.Expect(r.Definitions).To(BeEmpty(), config)
		g.Expect(problemFields(r)).To(Equal([]string{field}), config)
	}
	r := load(t, files{"tenants/classes/c.yaml": set, "tenants/x.yaml": simple("x", "className: c", "orthanc: {config: {StableAge: null, CaseSensitivePN: true}}")})
	g.Expect(r.Problems).To(BeEmpty())
	g.Expect(string(r.Definitions[0].Tenant.Spec.Orthanc.Config.Raw)).To(MatchJSON(
		`{"HttpProxy": "proxy.example.com:3128", "DicomWeb": {"PublicRoot": "/x/"}, "CaseSensitivePN": true}`))
}

// TestConfigOfFacility holds what a facility may say of its own images.
func TestConfigOfFacility(t *testing.T) {
	for _, config := range []string{
		"{}", "{StableAge: 60}", "{MaximumStorageSize: 0, MaximumPatientCount: 0}", "{MaximumPatientCount: 1000, MaximumStorageMode: Reject}",
		"{DicomWeb: {StudiesMetadata: MainDicomTags}, OrthancExplorer2: {Theme: dark, UiOptions: {EnableUpload: false, StudyListColumns: [PatientName, modalities]}}}",
		"{OverwriteInstances: true}", "{OverwriteInstances: IfChanged}", "{UserMetadata: {Ward: 1024}}", "{AcceptedTransferSyntaxes: ['1.2.840.10008.1.*']}",
		`{Dictionary: {"00e1,c2": [UI, PET-CT Multi Modality Name, 1, 1, ELSCINT1]}}`, "{ExtraMainDicomTags: {Instance: [Rows, Columns]}}",
		"{IngestTranscoding: 1.2.840.10008.1.2.4.90}", "{Gdcm: {RestrictTransferSyntaxes: [1.2.840.10008.1.2.4.90]}}", "{StableAge: null}",
	} {
		t.Run(config, func(t *testing.T) {
			NewWithT(t).Expect(byFacility(t, config).Problems).To(BeEmpty())
		})
	}
}

// TestOwnedOptions holds that each option that a file of the bundle sets is refused in a tenant's configuration.
func TestOwnedOptions(t *testing.T) {
	g := NewWithT(t)
	count := 0
	g.Expect(fs.WalkDir(bundles.FS, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".json" {
			return err
		}
		data, err := fs.ReadFile(bundles.FS, name)
		g.Expect(err).NotTo(HaveOccurred())
		set := map[string]any{}
		g.Expect(json.Unmarshal(data, &set)).To(Succeed(), name)
		for option, value := range set {
			count++
			config, err := json.Marshal(map[string]any{option: value})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(problemFields(byFacility(t, string(config)))).To(ContainElement("spec.orthanc.config["+option+"]"), name)
			g.Expect(problemFields(byClass(t, string(config)))).To(ContainElement("spec.orthanc.config["+option+"]"), name)
		}
		return nil
	})).To(Succeed())
	g.Expect(count).To(BeNumerically(">", 20))
}

// TestConfigIsDocumented holds that docs/orthanc.md lists the options that a facility and a class may set, and no others.
func TestConfigIsDocumented(t *testing.T) {
	g := NewWithT(t)
	data, err := os.ReadFile("../../docs/orthanc.md")
	g.Expect(err).NotTo(HaveOccurred())
	for heading, options := range map[string][]string{"#### Options for facilities": tenant.FacilityOptions(), "#### Options for classes": tenant.ClassOptions()} {
		_, section, found := strings.Cut(string(data), heading+"\n")
		g.Expect(found).To(BeTrue(), heading)
		section, _, _ = strings.Cut(section, "\n#")
		var listed []string
		for _, match := range regexp.MustCompile("`([A-Z][A-Za-z0-9.]+)`").FindAllStringSubmatch(section, -1) {
			listed = append(listed, match[1])
		}
		g.Expect(listed).To(ConsistOf(options), heading)
	}
}

// TestFacilityConfigOfAnyValue holds that what no file can hold is judged, too.
func TestFacilityConfigOfAnyValue(t *testing.T) {
	g := NewWithT(t)
	at := field.NewPath("spec", "orthanc", "config")
	for _, value := range []any{nil, 1, "x", []any{}, func() {}, map[string]any{"StableAge": func() {}}} {
		g.Expect(tenant.FacilityConfig(value, at)).NotTo(BeEmpty())
	}
	g.Expect(tenant.FacilityConfig(map[string]any{"StableAge": int64(60)}, at)).To(BeEmpty())
}

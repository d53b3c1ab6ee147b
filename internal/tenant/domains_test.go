// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/internal/tenant"
)

func domain(name string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) { t.Spec.Domain = name }
}

// at is a tenant with another domain than simple gives it.
func at(name, domain string, spec ...string) string {
	return strings.Replace(simple(name, spec...), name+".orthweb.com", domain, 1)
}

// TestDomains holds that one domain is one tenant's, with everything below it.
func TestDomains(t *testing.T) {
	nests := strings.Replace(class("nests", "suspend: false"), "spec:", "allowNestedDomains: true\nspec:", 1)
	byHand := func(t *v1alpha1.Tenant) { t.Labels, t.Annotations = nil, nil }
	for _, tc := range []struct {
		name     string
		files    files
		held     []v1alpha1.Tenant
		tenants  []string
		problems []problem
	}{
		{
			name: "below another's", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "x.a.b")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "host x.a.b is below a.b, which is the domain of tenant a: choose another, or ask the platform for a class with allowNestedDomains (at tenants/a.yaml:1)"}},
		},
		{
			name: "far below another's", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "z.y.x.a.b")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "is below a.b"}},
		},
		{
			name: "above another's, and first", files: files{"tenants/a.yaml": at("a", "x.a.b"), "tenants/b.yaml": at("b", "a.b")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "host a.b has x.a.b of tenant a below it: choose another"}},
		},
		{
			name: "equal", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "a.b")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "host a.b is held by tenant a"}},
		},
		{
			name:    "equal, with other hosts",
			files:   files{"tenants/a.yaml": at("a", "a.b", "ingress: {web: {host: w.x.y}, dicom: {host: d.x.y}}"), "tenants/b.yaml": at("b", "a.b", "ingress: {web: {host: w.z.y}, dicom: {host: d.z.y}}")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "host a.b is held by tenant a"}},
		},
		{
			name: "like another's", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "xa.b"), "tenants/c.yaml": at("c", "a.bc")}, tenants: []string{"a", "b", "c"},
		},
		{
			name: "beside another's", files: files{"tenants/a.yaml": at("a", "a.b.c"), "tenants/b.yaml": at("b", "b.b.c")}, tenants: []string{"a", "b"},
		},
		{
			name: "a web host below another's", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "b.b", web("www.a.b"))},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:7", "b", "spec.ingress.web.host", conflict, "host www.a.b is below a.b"}},
		},
		{
			name: "a DICOM host below another's", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "b.b", "ingress:", "  dicom: {host: d.a.b}")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:8", "b", "spec.ingress.dicom.host", conflict, "host d.a.b is below a.b"}},
		},
		{
			name: "a web host at another's domain, which has its own elsewhere", files: files{"tenants/a.yaml": at("a", "a.b", web("www.c.b")), "tenants/b.yaml": at("b", "b.b", web("a.b"))},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:7", "b", "spec.ingress.web.host", conflict, "host a.b is held by tenant a"}},
		},
		{
			name: "a web host below another's web host", files: files{"tenants/a.yaml": at("a", "a.b", web("x.y")), "tenants/b.yaml": at("b", "b.b", web("w.x.y"))},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:7", "b", "spec.ingress.web.host", conflict, "host w.x.y is below x.y, which is a host of tenant a"}},
		},
		{
			name: "a domain below another's web host", files: files{"tenants/a.yaml": at("a", "a.b", web("pacs.c.d")), "tenants/b.yaml": at("b", "x.pacs.c.d")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "which is a host of tenant a"}},
		},
		{
			name: "a domain below another's DICOM host", files: files{"tenants/a.yaml": at("a", "a.b", "ingress: {dicom: {host: dicom.c.d}}"), "tenants/b.yaml": at("b", "x.dicom.c.d")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "which is a host of tenant a"}},
		},
		{
			name: "a class permits it below a host too", files: files{"tenants/a.yaml": at("a", "a.b", web("pacs.c.d")), "tenants/b.yaml": at("b", "x.pacs.c.d", "className: nests"), "tenants/classes/c.yaml": nests}, tenants: []string{"a", "b"},
		},
		{
			name: "a domain above a host that is held", held: []v1alpha1.Tenant{held("b", "tenants/b.yaml", 1, webHost("x.a.b"))},
			files:   files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": simple("b", web("x.a.b"))},
			tenants: []string{"b"}, problems: []problem{{"tenants/a.yaml:6", "a", "spec.domain", conflict, "host a.b has x.a.b of tenant b below it"}},
		},
		{
			name: "an older tenant moves its domain above a younger one's host", held: []v1alpha1.Tenant{held("a", "tenants/a.yaml", 9), held("b", "tenants/b.yaml", 1, webHost("x.a.b"))},
			files:   files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": simple("b", web("x.a.b"))},
			tenants: []string{"b"}, problems: []problem{{"tenants/a.yaml:6", "a", "spec.domain", conflict, "below it"}},
		},
		{
			name: "a host above another's, both from before, becomes a domain", held: []v1alpha1.Tenant{held("a", "tenants/a.yaml", 9, webHost("a.b")), held("b", "tenants/b.yaml", 1, webHost("x.a.b"))},
			files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": simple("b", web("x.a.b"))}, tenants: []string{"a", "b"},
		},
		{
			name: "below a tenant made by hand", held: []v1alpha1.Tenant{held("hand", "", 1, domain("a.b"), byHand)},
			files:   files{"tenants/b.yaml": at("b", "x.a.b")},
			tenants: []string{}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "which is the domain of tenant hand"}},
		},
		{
			name: "above a tenant made by hand", held: []v1alpha1.Tenant{held("hand", "", 1, domain("x.a.b"), byHand)},
			files:   files{"tenants/b.yaml": at("b", "a.b")},
			tenants: []string{}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "of tenant hand below it"}},
		},
		{
			name: "a class permits it", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "x.a.b", "className: nests"), "tenants/classes/c.yaml": nests}, tenants: []string{"a", "b"},
		},
		{
			name: "a class permits it to the one below only", files: files{"tenants/b.yaml": at("b", "a.b", "className: nests"), "tenants/a.yaml": at("a", "x.a.b"), "tenants/classes/c.yaml": nests},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "below it"}},
		},
		{
			name: "no class permits the same domain", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "a.b", "className: nests"), "tenants/classes/c.yaml": nests},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", conflict, "is held by tenant a"}},
		},
		{
			name: "who was there before keeps it when the class no longer permits it", held: []v1alpha1.Tenant{held("a", "tenants/a.yaml", 2, domain("a.b")), held("b", "tenants/b.yaml", 1, domain("x.a.b"))},
			files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "x.a.b")}, tenants: []string{"a", "b"},
		},
		{
			name: "a broken file of the one below holds back nobody", held: []v1alpha1.Tenant{held("a", "tenants/a.yaml", 2, domain("a.b")), held("b", "tenants/b.yaml", 1, domain("x.a.b"))},
			files:   files{"tenants/a.yaml": at("a", "a.b", "displayName: New"), "tenants/b.yaml": at("b", "x.a.b", "bad: 1")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:7", "b", "spec.bad", invalid, "unknown field"}},
		},
		{
			name: "a new host below, beside the one that was there", held: []v1alpha1.Tenant{held("a", "tenants/a.yaml", 2, domain("a.b")), held("b", "tenants/b.yaml", 3, domain("x.a.b"))},
			files:   files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "x.a.b", web("www.a.b"))},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:7", "b", "spec.ingress.web.host", conflict, "below a.b"}},
		},
		{
			name: "what is let go can be had in the same revision", held: []v1alpha1.Tenant{held("a", "tenants/a.yaml", 2, domain("a.b"))},
			files: files{"tenants/a.yaml": at("a", "c.b"), "tenants/b.yaml": at("b", "x.a.b")}, tenants: []string{"a", "b"},
		},
		{
			name: "upper case is no other domain", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "A.b")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", invalid, "lower case"}},
		},
		{
			name: "a trailing dot is no other domain", files: files{"tenants/a.yaml": at("a", "a.b"), "tenants/b.yaml": at("b", "a.b.")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", invalid, "DNS name"}},
		},
		{
			name: "a letter that looks like another", files: files{"tenants/a.yaml": at("a", "bhs.b"), "tenants/b.yaml": at("b", "b\u04bbs.b")},
			tenants: []string{"a"}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", invalid, "DNS name"}},
		},
		{
			name: "a wildcard", files: files{"tenants/b.yaml": at("b", "'*.b.c'")},
			tenants: []string{}, problems: []problem{{"tenants/b.yaml:6", "b", "spec.domain", invalid, "DNS name"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := loadDefault(t, tc.files, tc.held...)
			expectProblems(t, r, tc.problems)
			NewWithT(t).Expect(names(r)).To(Equal(tc.tenants))
		})
	}
}

// TestPlatformDomains holds that every host of a facility is below a domain of the platform.
func TestPlatformDomains(t *testing.T) {
	for _, tc := range []struct {
		name     string
		text     string
		class    string
		problems []problem
	}{
		{name: "below", text: at("x", "x.a.example")},
		{name: "far below", text: at("x", "y.x.b.example", web("www.x.a.example"))},
		{name: "at", text: at("x", "a.example"), problems: []problem{{"tenants/x.yaml:6", "x", "spec.domain", invalid, "is not below a domain that facilities may have hosts in, a.example, b.example"}}},
		{name: "elsewhere", text: at("x", "x.c.example"), problems: []problem{{"tenants/x.yaml:6", "x", "spec.domain", invalid, "choose a name below one"}}},
		{name: "like one", text: at("x", "xa.example"), problems: []problem{{"tenants/x.yaml:6", "x", "spec.domain", invalid, "is not below"}}},
		{name: "one in front", text: at("x", "x.a.example.evil.com"), problems: []problem{{"tenants/x.yaml:6", "x", "spec.domain", invalid, "is not below"}}},
		{name: "web host elsewhere", text: at("x", "x.a.example", web("bank.com")), problems: []problem{{"tenants/x.yaml:7", "x", "spec.ingress.web.host", invalid, "is not below"}}},
		{name: "DICOM host elsewhere", text: at("x", "x.a.example", "ingress:", "  dicom: {host: bank.com}"), problems: []problem{{"tenants/x.yaml:8", "x", "spec.ingress.dicom.host", invalid, "is not below"}}},
		{name: "host of a class elsewhere", text: at("x", "x.a.example", "className: c"), class: class("c", web("bank.com")),
			problems: []problem{{"tenants/x.yaml:5", "x", "spec.ingress.web.host", invalid, "the value comes from TenantClass c"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules, errs := tenant.NewRules(&v1alpha1.TenantRepositorySpec{Domains: []v1alpha1.Hostname{"a.example", "b.example"}})
			NewWithT(t).Expect(errs).To(BeEmpty())
			f := files{"tenants/x.yaml": tc.text}
			if tc.class != "" {
				f["tenants/classes/c.yaml"] = tc.class
			}
			r, err := tenant.Load(f.fs(), tenant.Options{Path: "tenants", Rules: rules})
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			expectProblems(t, r, tc.problems)
		})
	}
}

// TestBuckets holds that two tenants share no place in a bucket, however they spell it.
func TestBuckets(t *testing.T) {
	s3 := func(bucket, endpoint, root string) string {
		out := "bucket: " + bucket + ", region: eu-central-1"
		if endpoint != "" {
			out += ", endpoint: 'https://" + endpoint + "'"
		}
		if root != "" {
			out += ", rootPath: " + root
		}
		return "orthanc: {storage: {type: S3, s3: {" + out + "}}}"
	}
	backup := func(path, endpoint string) string {
		out := "destinationPath: 's3://" + path + "'"
		if endpoint != "" {
			out += ", endpoint: 'https://" + endpoint + "', secretRef: {name: b}"
		}
		return "postgres: {backup: {" + out + "}}"
	}
	const images, backups = "spec.orthanc.storage.s3.bucket", "spec.postgres.backup.destinationPath"
	for _, tc := range []struct {
		name, a, b string
		field      string // of b that is refused
	}{
		{"one bucket", s3("images", "", ""), s3("images", "", ""), images},
		{"a path within the bucket", s3("images", "", ""), s3("images", "", "b"), images},
		{"the bucket around a path", s3("images", "", "a"), s3("images", "", ""), images},
		{"a path within a path", s3("images", "", "a"), s3("images", "", "a/b"), images},
		{"paths beside each other", s3("images", "", "a"), s3("images", "", "ab"), ""},
		{"two buckets", s3("images", "", ""), s3("images2", "", ""), ""},
		{"AWS by the host of a region", backup("images/a", ""), backup("images/a", "s3.us-east-1.amazonaws.com"), backups},
		{"AWS by an old host of a region", backup("images/a", ""), backup("images/a", "s3-us-west-2.amazonaws.com"), backups},
		{"AWS with a port", backup("images/a", ""), backup("images/a", "s3.amazonaws.com:0443"), backups},
		{"AWS with the bucket in the host", s3("images", "", ""), backup("xyz/a", "images.s3.eu-central-1.amazonaws.com"), backups},
		{"AWS with another bucket in the host", s3("images", "", ""), backup("xyz/a", "others.s3.eu-central-1.amazonaws.com"), ""},
		{"AWS by a private endpoint", s3("images", "", ""), backup("images/a", "bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com"), backups},
		{"the same bucket in China", s3("images", "", ""), backup("images/a", "s3.cn-north-1.amazonaws.com.cn"), ""},
		{"another server", s3("images", "", ""), s3("images", "minio.example.com", ""), ""},
		{"a server with the bucket in the host", s3("images", "minio.example.com", ""), s3("xyz", "images.minio.example.com", ""), images},
		{"a server with the bucket in the host, beside", s3("images", "minio.example.com", "aaa"), s3("bbb", "images.minio.example.com", ""), ""},
		{"a server with the bucket in the host, within", s3("images", "minio.example.com", "aaa"), s3("aaa", "images.minio.example.com", "b"), images},
		{"a server with its port", s3("images", "minio.example.com", ""), s3("images", "minio.example.com:443", ""), images},
		{"a server with another port", s3("images", "minio.example.com", ""), s3("images", "minio.example.com:9000", ""), ""},
		{"a backup within another's", backup("backups/a", ""), backup("backups/a/b", ""), backups},
		{"a backup around another's", backup("backups/a/b", ""), backup("backups", ""), backups},
		{"backups beside each other", backup("backups/a", ""), backup("backups/b", ""), ""},
		{"a backup within another's images", s3("images", "", ""), backup("images/b", ""), backups},
		{"images around another's backup", backup("images/b", "minio.example.com"), s3("images", "minio.example.com:443", ""), images},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := NewWithT(t)
			r := loadDefault(t, files{"tenants/a.yaml": simple("a", tc.a), "tenants/b.yaml": simple("b", tc.b)})
			if tc.field == "" {
				g.Expect(r.Problems).To(BeEmpty())
				return
			}
			g.Expect(names(r)).To(Equal([]string{"a"}), "%v", r.Problems)
			g.Expect(r.Problems).To(HaveLen(1))
			g.Expect(r.Problems[0].Field).To(Equal(tc.field))
			g.Expect(r.Problems[0].Message).To(MatchRegexp(`^bucket .* tenant a`))
		})
	}

	// A tenant's own images and backups may be in one bucket.
	g := NewWithT(t)
	r := loadDefault(t, files{"tenants/a.yaml": simple("a", s3("images", "", ""), backup("images/backups", ""))})
	g.Expect(r.Problems).To(BeEmpty())
}

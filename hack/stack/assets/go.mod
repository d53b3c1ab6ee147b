// The modules whose files the stack reads and never builds: custom resource
// definitions, the charts of Istio's gateway and of Traefik, and the source of the
// flux command.
//
// Only the versions and go.sum matter here. `go mod tidy` would drop every line,
// since no Go file imports them; after changing a version run `go mod download`
// with the module's name instead, which records its sum.
module github.com/digihunch/korthweb/hack/stack/assets

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/cloudnative-pg/cloudnative-pg v1.30.0
	github.com/cloudnative-pg/plugin-barman-cloud v0.15.0
	github.com/fluxcd/flux2/v2 v2.9.2
	github.com/prometheus-operator/prometheus-operator v0.88.0
	github.com/traefik/traefik-helm-chart v41.6.0+incompatible
	github.com/traefik/traefik/v3 v3.6.7
	istio.io/api v1.31.1
	istio.io/istio v0.0.0-20260827124520-eed52ebb66ad
)

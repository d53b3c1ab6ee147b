// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	artifactcfg "github.com/fluxcd/pkg/artifact/config"
	"github.com/fluxcd/pkg/artifact/storage"
	"github.com/fluxcd/pkg/runtime/acl"
	runtimeclient "github.com/fluxcd/pkg/runtime/client"
	runtimectrl "github.com/fluxcd/pkg/runtime/controller"
	"github.com/fluxcd/pkg/runtime/events"
	"github.com/fluxcd/pkg/runtime/jitter"
	"github.com/fluxcd/pkg/runtime/leaderelection"
	"github.com/fluxcd/pkg/runtime/logger"
	"github.com/fluxcd/pkg/runtime/metrics"
	"github.com/fluxcd/pkg/runtime/probes"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcfg "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/digihunch/korthweb/api/v1alpha1"
	"github.com/digihunch/korthweb/controllers"
	"github.com/digihunch/korthweb/gitops/bundles"
	"github.com/digihunch/korthweb/internal/artifact"
	"github.com/digihunch/korthweb/internal/emit"
	"github.com/digihunch/korthweb/internal/render"
)

// controllerName is the name that metrics, events and the leader election go by.
const controllerName = "korthweb"

// controllerOptions are the flags of `korthweb controller`: Flux's own, with Flux's names.
type controllerOptions struct {
	metricsAddr       string
	pprofAddr         string
	eventsAddr        string
	healthAddr        string
	concurrent        int
	requeueDependency time.Duration
	insecureAllowHTTP bool
	namespaces        []string

	acl            acl.Options
	artifact       artifactcfg.Options
	client         runtimeclient.Options
	jitter         jitter.IntervalOptions
	leaderElection leaderelection.Options
	log            logger.Options
	rateLimiter    runtimectrl.RateLimiterOptions
	watch          runtimectrl.WatchOptions
}

func controllerCommand() *cobra.Command {
	o := &controllerOptions{}
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the controller",
		Long: `Run the controller in the cluster of the current kubeconfig or service account.

It needs Flux 2.9 or later, its kustomize-controller started with --feature-gates=ExternalArtifact=true.`,
		Example: `  # As the Deployment in config/manager does
  korthweb controller --storage-path=/data --storage-adv-addr=korthweb.flux-system.svc.cluster.local.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return o.run(ctrl.SetupSignalHandler()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.metricsAddr, "metrics-addr", ":8080", "The address the metric endpoint binds to.")
	f.StringVar(&o.pprofAddr, "pprof-addr", "", "The address the profiles of Go's pprof are served at; they are not when it is empty.")
	f.StringVar(&o.eventsAddr, "events-addr", "", "The address of the events receiver.")
	f.StringVar(&o.healthAddr, "health-addr", ":9440", "The address the health endpoint binds to.")
	f.IntVar(&o.concurrent, "concurrent", 4, "The number of concurrent reconciles per controller.")
	f.DurationVar(&o.requeueDependency, "requeue-dependency", 30*time.Second, "The interval at which tenants that are not ready are reevaluated.")
	f.BoolVar(&o.insecureAllowHTTP, "insecure-allow-http", false, "Allow TenantRepositories to read from git servers over plain http.")
	f.StringSliceVar(&o.namespaces, "platform-namespaces", nil, "Namespaces of the platform, beside those of Kubernetes, Flux and the operators, that no tenant may have.")
	flux := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.acl.BindFlags(flux)
	o.artifact.BindFlags(flux)
	o.client.BindFlags(flux)
	o.jitter.BindFlags(flux)
	o.leaderElection.BindFlags(flux)
	o.log.BindFlags(flux)
	o.rateLimiter.BindFlags(flux)
	o.watch.BindFlags(flux)
	// Whoever may write a TenantRepository in a namespace of their own is not the platform.
	o.watch.AllNamespaces = false
	everywhere := flux.Lookup(watchAllNamespaces)
	everywhere.DefValue = "false"
	everywhere.Usage = "Reconcile TenantRepositories and Tenants in all namespaces; otherwise only those in RUNTIME_NAMESPACE."
	flux.VisitAll(func(flag *pflag.Flag) {
		if !slices.Contains(withoutMeaning, flag.Name) {
			f.AddFlag(flag)
		}
	})
	return cmd
}

// withoutMeaning are flags of Flux's that would change nothing here: artifacts have a sha256 digest, and no
// ConfigMap or Secret is watched.
var withoutMeaning = []string{"artifact-digest-algo", "watch-configs-label-selector"}

// watchAllNamespaces is a flag of Flux's whose default is another here.
const watchAllNamespaces = "watch-all-namespaces"

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(sourcev1.AddToScheme(scheme))
	utilruntime.Must(kustomizev1.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}

// gcPercent makes the heap grow by half before it is collected, not by all: reading a thousand definitions
// leaves garbage of several times what is kept. GOGC, where set, takes precedence.
const gcPercent = 50

func (o *controllerOptions) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	logger.SetLogger(logger.NewLogger(o.log))
	log := ctrl.Log.WithName("setup")
	if !o.watch.AllNamespaces && o.namespace() == "" {
		return fmt.Errorf("the environment variable %s is not set: set it to the namespace of the TenantRepositories, "+
			"as the Deployment in config/manager does, or watch all namespaces with --%s", runtimectrl.EnvRuntimeNamespace, watchAllNamespaces)
	}

	if err := o.jitter.SetGlobalJitter(nil); err != nil {
		return fmt.Errorf("--interval-jitter-percentage: %w", err)
	}
	store, err := storage.New(&o.artifact)
	if err != nil {
		return fmt.Errorf("--storage-path: %w", err)
	}
	renderer, err := render.New(bundles.FS)
	if err != nil {
		return fmt.Errorf("the embedded bundles: %w", err)
	}
	selector, err := runtimectrl.GetWatchSelector(o.watch)
	if err != nil {
		return fmt.Errorf("--watch-label-selector: %w", err)
	}

	mgr, err := ctrl.NewManager(runtimeclient.GetConfigOrDie(o.client), o.managerOptions())
	if err != nil {
		return fmt.Errorf("cannot set up the manager: %w", err)
	}
	probes.SetupChecks(mgr, log)
	recorder, err := events.NewRecorder(mgr, ctrl.Log, o.eventsAddr, controllerName)
	if err != nil {
		return fmt.Errorf("--events-addr: %w", err)
	}
	measured := runtimectrl.NewMetrics(mgr, metrics.MustMakeRecorder(), v1alpha1.Finalizer)

	history := artifact.NewHistory(mgr.GetClient(), mgr.GetAPIReader())
	history.Namespace = o.namespace()
	if err := (&controllers.TenantRepositoryReconciler{
		Client:             mgr.GetClient(),
		EventRecorder:      recorder,
		Metrics:            measured,
		Selector:           selector,
		History:            history,
		InsecureAllowHTTP:  o.insecureAllowHTTP,
		PlatformNamespaces: o.namespaces,
	}).SetupWithManager(ctx, mgr, runtimectrl.GetRateLimiter(o.rateLimiter)); err != nil {
		return fmt.Errorf("cannot set up the TenantRepository controller: %w", err)
	}
	self, err := whoAmI(ctx, mgr.GetClient())
	if err != nil {
		return err
	}
	if err := (&controllers.TenantReconciler{
		Client:                    mgr.GetClient(),
		EventRecorder:             recorder,
		Metrics:                   measured,
		Renderer:                  renderer,
		Publisher:                 artifact.NewPublisher(store),
		History:                   history,
		Uncached:                  mgr.GetAPIReader(),
		Applier:                   emit.NewApplier(mgr.GetClient(), mgr.GetAPIReader(), self),
		Namespace:                 o.namespace(),
		Selector:                  selector,
		DependencyRequeueInterval: o.requeueDependency,
		NoCrossNamespaceRefs:      o.acl.NoCrossNamespaceRefs,
		PlatformNamespaces:        o.namespaces,
	}).SetupWithManager(ctx, mgr, runtimectrl.GetRateLimiter(o.rateLimiter)); err != nil {
		return fmt.Errorf("cannot set up the Tenant controller: %w", err)
	}

	// Only the leader's storage is whole, so only the leader serves it.
	if err := mgr.Add(&artifact.Server{Path: o.artifact.StoragePath, Address: o.artifact.StorageAddress}); err != nil {
		return fmt.Errorf("cannot set up the artifact server: %w", err)
	}

	if !o.watch.AllNamespaces {
		warnOfIgnored(ctx, log, mgr.GetAPIReader(), os.Getenv(runtimectrl.EnvRuntimeNamespace))
	}
	log.Info("starting manager", "version", Version)
	return mgr.Start(ctx)
}

// warnOfIgnored says which TenantRepositories are in other namespaces than the one that is watched, where that can be known.
func warnOfIgnored(ctx context.Context, log logr.Logger, reader client.Reader, namespace string) {
	list := &v1alpha1.TenantRepositoryList{}
	if err := reader.List(ctx, list); err != nil {
		if !apierrors.IsForbidden(err) {
			log.Error(err, "cannot list the TenantRepositories of other namespaces")
		}
		return
	}
	var ignored []string
	for i := range list.Items {
		if r := &list.Items[i]; r.Namespace != namespace {
			ignored = append(ignored, client.ObjectKeyFromObject(r).String())
		}
	}
	if len(ignored) > 0 {
		log.Info("warning: TenantRepositories in other namespaces are ignored; move them here, or watch all namespaces with --"+watchAllNamespaces,
			"namespace", namespace, "count", len(ignored), "ignored", strings.Join(ignored, ", "))
	}
}

// whoAmI returns the account that the controller runs as, by the apiserver's own word: it is what gets the right to read
// the Secrets that a tenant's definition names.
func whoAmI(ctx context.Context, c client.Client) (rbacv1.Subject, error) {
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, review); err != nil {
		return rbacv1.Subject{}, fmt.Errorf("cannot ask the apiserver who this is: %w", err)
	}
	user := review.Status.UserInfo.Username
	if namespace, name, err := serviceaccount.SplitUsername(user); err == nil {
		return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}, nil
	}
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}, nil
}

func (o *controllerOptions) managerOptions() ctrl.Options {
	leaderElectionID := controllerName + "-leader-election"
	if o.watch.LabelSelector != "" {
		leaderElectionID = leaderelection.GenerateID(leaderElectionID, o.watch.LabelSelector)
	}
	emitted := labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.FieldManager})
	everywhere := map[string]ctrlcache.Config{metav1.NamespaceAll: {}}
	options := ctrl.Options{
		Scheme:                        newScheme(),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddr},
		PprofBindAddress:              o.pprofAddr,
		HealthProbeBindAddress:        o.healthAddr,
		LeaderElection:                o.leaderElection.Enable,
		LeaderElectionReleaseOnCancel: o.leaderElection.ReleaseOnCancel,
		LeaseDuration:                 &o.leaderElection.LeaseDuration,
		RenewDeadline:                 &o.leaderElection.RenewDeadline,
		RetryPeriod:                   &o.leaderElection.RetryPeriod,
		LeaderElectionID:              leaderElectionID,
		LeaderElectionNamespace:       os.Getenv(runtimectrl.EnvRuntimeNamespace),
		Logger:                        ctrl.Log,
		Client: client.Options{Cache: &client.CacheOptions{
			DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}},
		}},
		Cache: ctrlcache.Options{
			DefaultTransform: ctrlcache.TransformStripManagedFields(),
			// Flux's kinds cannot be here: the cache would not start where Flux is not installed.
			ByObject: map[client.Object]ctrlcache.ByObject{
				&corev1.Namespace{}:      {Label: emitted},
				&corev1.ServiceAccount{}: {Label: emitted, Namespaces: everywhere},
				&rbacv1.RoleBinding{}:    {Label: emitted, Namespaces: everywhere},
			},
		},
		Controller: ctrlcfg.Controller{
			MaxConcurrentReconciles: o.concurrent,
			RecoverPanic:            ptr.To(true),
		},
	}
	if namespace := o.namespace(); namespace != "" {
		options.Cache.DefaultNamespaces = map[string]ctrlcache.Config{namespace: {}}
	}
	return options
}

// namespace of the TenantRepositories and Tenants; empty for all.
func (o *controllerOptions) namespace() string {
	if o.watch.AllNamespaces {
		return ""
	}
	return os.Getenv(runtimectrl.EnvRuntimeNamespace)
}

// Runs cert-manager's own controllers for certificates, with its issuers CA and SelfSigned, against the API
// server of a kubeconfig, and prints "ready" once they have seen what is there. It has no webhooks, no other
// issuers, no leader election and no metrics. "cert-manager crds" prints the CRDs that they need, which
// dev/build-tool puts beside the program.
//
// To move to another version: go get github.com/cert-manager/cert-manager@VERSION && go mod tidy
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/cert-manager/cert-manager/pkg/controller"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	// How many objects a controller works on at once, as in cert-manager's program.
	workers = 5
	// How long the API server and the CRDs are waited for, and then the controllers' first look at what is there.
	patience = 30 * time.Second
)

func main() {
	// All but the options with a flag is as cert-manager's program has it by default.
	copied := []string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"}
	options := controller.ContextOptions{CertificateOptions: controller.CertificateOptions{
		CopiedAnnotationPrefixes:                 copied,
		CertificateRequestMinimumBackoffDuration: time.Hour,
		CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
	}}
	flag.StringVar(&options.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server")
	flag.StringVar(&options.ClusterResourceNamespace, "cluster-resource-namespace", "cert-manager",
		"`namespace` of the Secrets of ClusterIssuers")
	qps := flag.Float64("kube-api-qps", 200, "requests a second, where the API server has no Priority and Fairness")
	flag.IntVar(&options.KubernetesAPIBurst, "kube-api-burst", 400, "requests at once, likewise")
	flag.Var(new(klog.Level), "v", "`level` of cert-manager's log: 2 tells what happens, 5 everything (default 0)")
	flag.Parse()
	options.KubernetesAPIQPS = float32(*qps)

	var err error
	switch {
	case flag.NArg() == 1 && flag.Arg(0) == "crds":
		err = printCRDs()
	case flag.NArg() == 0 && options.Kubeconfig != "":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		// Whatever fails because it was told to end has not failed.
		if err = run(ctx, options); ctx.Err() != nil {
			err = nil
		}
	default:
		err = errors.New("usage: cert-manager --kubeconfig FILE, or cert-manager crds; --help lists all flags")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cert-manager:", err)
		os.Exit(1)
	}
}

func printCRDs() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	crds, err := os.Open(filepath.Join(filepath.Dir(program), "crds.yaml"))
	if err != nil {
		return err
	}
	defer crds.Close()
	_, err = io.Copy(os.Stdout, crds)
	return err
}

func run(ctx context.Context, options controller.ContextOptions) error {
	if err := awaitCRDs(ctx, options.Kubeconfig); err != nil {
		return err
	}
	factory, err := controller.NewContextFactory(ctx, options)
	if err != nil {
		return err
	}
	controllers := map[string]controller.Interface{}
	for name, build := range controller.Known() {
		if controllers[name], err = build(factory); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := startInformers(ctx, factory); err != nil {
		return err
	}
	var running sync.WaitGroup
	failed := make(chan error, len(controllers))
	for name, one := range controllers {
		running.Go(func() {
			if err := one.Run(workers, ctx); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	fmt.Println("ready")
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		running.Wait()
		return nil
	}
}

// Controllers without their CRDs would wait for ever, and log every second why.
func awaitCRDs(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// An API server that does not answer at all is to be named as the reason, too.
	config.Timeout = patience / 3
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; {
		err := missing(client)
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func missing(client discovery.DiscoveryInterface) error {
	group := v1.SchemeGroupVersion.String()
	found, err := client.ServerResourcesForGroupVersion(group)
	if err != nil {
		return fmt.Errorf("cannot find the CRDs of %s: %w", group, err)
	}
	wanted := map[string]bool{"certificates": true, "certificaterequests": true, "issuers": true, "clusterissuers": true}
	for _, resource := range found.APIResources {
		delete(wanted, resource.Name)
	}
	if len(wanted) > 0 {
		return fmt.Errorf("the API server lacks CRDs of %s: %v", group, slices.Sorted(maps.Keys(wanted)))
	}
	return nil
}

// All contexts of a factory share their informers, which by now are those that the controllers asked for.
func startInformers(ctx context.Context, factory *controller.ContextFactory) error {
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	synced := shared.KubeSharedInformerFactory.WaitForCacheSync(patient.Done())
	for kind, done := range shared.SharedInformerFactory.WaitForCacheSync(patient.Done()) {
		synced[kind.String()] = done
	}
	for kind, done := range synced {
		if !done {
			return fmt.Errorf("cannot list %s within %s, the log above says why", kind, patience)
		}
	}
	return nil
}

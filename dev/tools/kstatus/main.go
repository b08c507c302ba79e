// Prints what kstatus says of each object on stdin, a stream of JSON: kind, name, status and message,
// separated by tabs. Two libraries are asked, Kubernetes' own and the one that Flux and Helm use;
// where they differ it fails.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"

	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubernetes "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	for stream := json.NewDecoder(os.Stdin); ; {
		object := &unstructured.Unstructured{}
		if err := stream.Decode(object); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		theirs, err := kubernetes.Compute(object)
		if err != nil {
			log.Fatal(err)
		}
		if other, err := flux.Compute(object); err != nil || string(other.Status) != string(theirs.Status) {
			log.Fatalf("%s: %v for Kubernetes, %v for Flux (%v)", object.GetName(), theirs, other, err)
		}
		fmt.Printf("%s\t%s\t%s\t%s\n", object.GetKind(), object.GetName(), theirs.Status, theirs.Message)
	}
}

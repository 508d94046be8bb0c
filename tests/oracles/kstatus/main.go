// Command kstatus says how Kubernetes objects do, by the library that Flux itself asks: it reads one object a line
// (JSON) and writes one word a line, as kstatus's poller would report it.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	log.SetFlags(0)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(out, word(object))
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
	if err := out.Flush(); err != nil {
		log.Fatal(err)
	}
}

func word(object *unstructured.Unstructured) string {
	result, err := status.Compute(object)
	if err != nil {
		return status.UnknownStatus.String()
	}
	return result.Status.String()
}

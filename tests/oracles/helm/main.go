// What Helm and Flux say: the command itself, and the arithmetic that Flux does on values and releases.
//
//	oracle helm ARGUMENT...  the helm command
//	oracle values            reads [[path, value, way], values] a line; writes the merged values, their digest, or an error
//	oracle snapshot          reads a release as Helm stores it (JSON) and an OCI digest; writes Flux's digest of it
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	goyaml "go.yaml.in/yaml/v2"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	helmcmd "helm.sh/helm/v4/pkg/cmd"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("helm, values or snapshot?"))
	}
	switch os.Args[1] {
	case "helm":
		args := os.Args[2:]
		os.Args = append([]string{"helm"}, args...)
		command, err := helmcmd.NewRootCmd(os.Stdout, args, helmcmd.SetupLogging)
		if err == nil {
			err = command.Execute()
		}
		if err != nil {
			fail(err)
		}
	case "values":
		eachLine(values)
	case "snapshot":
		eachLine(snapshot)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "Error:", err)
	os.Exit(1)
}

func eachLine(answer func([]byte) any) {
	lines := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			out.Encode(answer(line))
		}
		if err == io.EOF {
			return
		}
	}
}

type step struct{ Path, Value, Way string }

func values(line []byte) any {
	var asked struct {
		Values map[string]any
		Steps  []step
	}
	if err := json.Unmarshal(line, &asked); err != nil {
		fail(err)
	}
	for _, step := range asked.Steps {
		if err := set(asked.Values, step); err != nil {
			return map[string]any{"error": err.Error()}
		}
	}
	digest := sha256.New()
	text := ""
	if len(asked.Values) > 0 {
		text = encoded(asked.Values)
		digest.Write([]byte(text))
	}
	return map[string]any{"values": asked.Values, "yaml": text, "digest": fmt.Sprintf("sha256:%x", digest.Sum(nil))}
}

// As github.com/fluxcd/pkg/chartutil sets the value of a reference that has a target path.
func set(values map[string]any, step step) error {
	value := step.Value
	switch step.Way {
	case "literal":
		value = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `[`, `\[`, `]`, `\]`, `{`, `\{`, `}`, `\}`).Replace(value)
		return strvals.ParseIntoString(step.Path+"="+value, values)
	case "string":
		return strvals.ParseIntoString(step.Path+"="+value, values)
	default:
		return strvals.ParseInto(step.Path+"="+value, values)
	}
}

// As github.com/fluxcd/pkg/chartutil encodes values before it hashes them.
func encoded(values map[string]any) string {
	found := yaml.JSONObjectToYAMLObject(values)
	sorted(found)
	text, err := goyaml.Marshal(found)
	if err != nil {
		fail(err)
	}
	return string(text)
}

func sorted(found any) {
	switch found := found.(type) {
	case goyaml.MapSlice:
		sort.Slice(found, func(i, j int) bool { return found[i].Key.(string) < found[j].Key.(string) })
		for _, item := range found {
			sorted(item.Value)
		}
	case []any:
		for _, item := range found {
			sorted(item)
		}
	}
}

// What helm-controller hashes of a release.
type observation struct {
	Name          string         `json:"name"`
	Version       int            `json:"version"`
	Info          release.Info   `json:"info"`
	ChartMetadata chart.Metadata `json:"chartMetadata"`
	Config        map[string]any `json:"config"`
	Manifest      string         `json:"manifest"`
	Hooks         []release.Hook `json:"hooks"`
	Namespace     string         `json:"namespace"`
	OCIDigest     string         `json:"ociDigest,omitempty"`
}

func snapshot(line []byte) any {
	var asked struct {
		Release   release.Release
		OCIDigest string
	}
	if err := json.Unmarshal(line, &asked); err != nil {
		fail(err)
	}
	found := asked.Release
	seen := observation{
		Name: found.Name, Version: found.Version, Manifest: found.Manifest, Namespace: found.Namespace,
		OCIDigest: asked.OCIDigest,
	}
	if found.Info != nil {
		seen.Info = *found.Info
	}
	if found.Chart != nil && found.Chart.Metadata != nil {
		seen.ChartMetadata = *found.Chart.Metadata
	}
	if len(found.Config) > 0 {
		seen.Config = found.Config
	}
	for _, hook := range found.Hooks {
		isTest := false
		for _, event := range hook.Events {
			isTest = isTest || event == release.HookTest
		}
		if !isTest {
			seen.Hooks = append(seen.Hooks, *hook)
		}
	}
	digest := sha256.New()
	if err := json.NewEncoder(digest).Encode(seen); err != nil {
		fail(err)
	}
	return fmt.Sprintf("sha256:%x", digest.Sum(nil))
}

// Command registry is the CNCF's OCI registry, for the tests (github.com/distribution/distribution), and what Flux reads
// registries with (github.com/google/go-containerregistry), as an oracle.
//
// Of the registry's parts only those that the tests need are in it: no storage in a cloud.
//
//	registry serve CONFIG                  serves
//	registry pull REFERENCE LAYER-FILE     prints the digest, the annotations and the layers of the artifact that is
//	                                       chosen, as JSON, and writes its first layer
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

type answer struct {
	Head        string            `json:"head"`
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
	Layers      []layer           `json:"layers"`
}

type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		registry.RootCmd.SetArgs(os.Args[1:])
		err = registry.RootCmd.Execute()
	case len(os.Args) == 4 && os.Args[1] == "pull":
		err = pull(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: registry serve CONFIG | pull REFERENCE LAYER-FILE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

// pull reads with the credentials of the file config.json in the folder that DOCKER_CONFIG names.
func pull(text, file string) error {
	reference, err := name.ParseReference(text)
	if err != nil {
		return err
	}
	keychain := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	head, err := remote.Head(reference, keychain)
	if err != nil {
		return err
	}
	image, err := remote.Image(reference, keychain)
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	told := answer{Head: head.Digest.String(), Digest: digest.String(), Annotations: manifest.Annotations}
	for _, each := range manifest.Layers {
		told.Layers = append(told.Layers, layer{string(each.MediaType), each.Digest.String(), each.Size})
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	if len(layers) > 0 {
		content, err := layers[0].Compressed()
		if err != nil {
			return err
		}
		defer content.Close()
		out, err := os.Create(file)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, content); err != nil {
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}

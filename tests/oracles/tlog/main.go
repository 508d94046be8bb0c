// Command tlog reads a published log with Go's own transparency-log packages (those of the Go checksum database),
// and so tells whether what Tidelog publishes is what others expect: tlog VKEY DIRECTORY.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type tiles struct{ directory string }

func (t tiles) Height() int                         { return height }
func (t tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range wanted {
		// The specification leaves the height out of the path.
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		data, err := os.ReadFile(filepath.Join(t.directory, path))
		if err != nil {
			return nil, err
		}
		read = append(read, data)
	}
	return read, nil
}

func main() {
	log.SetFlags(0)
	vkey, directory := os.Args[1], os.Args[2]
	tree := checkpoint(vkey, directory)
	reader := tlog.TileHashReader(tree, tiles{directory})
	for number := int64(0); number < tree.N; number += 1 << height {
		width := min(tree.N-number, 1<<height)
		check(reader, number, entries(directory, number>>height, width))
	}
	fmt.Printf("%d entries\n", tree.N)
}

func checkpoint(vkey, directory string) tlog.Tree {
	verifier, err := note.NewVerifier(vkey)
	fatal(err)
	text, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	fatal(err)
	opened, err := note.Open(text, note.VerifierList(verifier))
	fatal(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		log.Fatalf("the origin %s is not the key's name", lines[0])
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	fatal(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	fatal(err)
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}
}

func entries(directory string, bundle, width int64) [][]byte {
	tile := tlog.Tile{H: height, L: -1, N: bundle, W: int(width)}
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(directory, path))
	fatal(err)
	var found [][]byte
	for len(data) > 0 {
		length := int(binary.BigEndian.Uint16(data))
		found = append(found, data[2:2+length])
		data = data[2+length:]
	}
	return found
}

func check(reader tlog.HashReader, first int64, entries [][]byte) {
	var indexes []int64
	for number := range entries {
		indexes = append(indexes, tlog.StoredHashIndex(0, first+int64(number)))
	}
	hashes, err := reader.ReadHashes(indexes)
	fatal(err)
	for number, entry := range entries {
		if tlog.RecordHash(entry) != hashes[number] {
			log.Fatalf("entry %d is not the one in the tree", first+int64(number))
		}
	}
}

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Reads lines of JSON [range, version] and prints for each whether the version is in the range, or why it is no range.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/Masterminds/semver/v3"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var asked [2]string
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		constraint, err := semver.NewConstraint(asked[0])
		if err != nil {
			fmt.Println("no range")
			continue
		}
		version, err := semver.NewVersion(asked[1])
		if err != nil {
			fmt.Println("no version")
			continue
		}
		fmt.Println(constraint.Check(version))
	}
}

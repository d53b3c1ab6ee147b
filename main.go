// SPDX-License-Identifier: Apache-2.0

// Korthweb turns one small file per healthcare facility into a complete Orthanc deployment that Flux
// applies and keeps in place. The same program is the controller and the command line.
package main

import (
	"os"

	"github.com/digihunch/korthweb/internal/cli"
)

func main() {
	os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr))
}

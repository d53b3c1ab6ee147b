// SPDX-License-Identifier: Apache-2.0

// Package cli is the korthweb command: the controller, and the same parsing, validation and rendering
// offline, for people and for pull requests.
package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version of the program, set when it is built: -ldflags "-X …/internal/cli.Version=v1.2.3".
var Version = "dev"

// errProblems ends a command whose findings are printed already.
var errProblems = errors.New("problems found")

// Run executes the command line and returns the exit code: 0 where all is well, 1 where problems were
// found or something failed, 2 where the command line itself is wrong.
func Run(args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "korthweb",
		Short: "Onboard healthcare facilities onto Kubernetes from one small file each",
		Long: `Korthweb reads one small file per healthcare facility (tenant) from git, renders each into a complete
Orthanc deployment and hands it to Flux.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(controllerCommand(), validateCommand(), renderCommand(), versionCommand())
	// Once a command runs, its command line was right.
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }

	err := root.Execute()
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errProblems):
		return 1
	case !started:
		fmt.Fprintf(stderr, "korthweb: %s\nSee 'korthweb --help'.\n", harmlessLines(err.Error()))
		return 2
	}
	fmt.Fprintf(stderr, "korthweb: %s\n", harmless(err.Error()))
	return 1
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			revision := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = " (" + s.Value + ")"
					}
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "korthweb %s%s %s\n", Version, revision, runtime.Version())
			return err
		},
	}
}

package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary and of the filter in it",
		Args:  noArgs,
	}
	output := addOutput(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := struct {
			Version    string `json:"version"`
			FilterHash string `json:"filterHash"`
			Go         string `json:"go"`
			Platform   string `json:"platform"`
		}{env.Version, env.FilterHash, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
		if *output == outputJSON {
			raw, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("encode the version: %w", err)
			}
			return printJSON(env.Stdout, raw)
		}
		_, err := fmt.Fprintf(env.Stdout, "seawall %s\nfilter  %s\nbuilt   %s %s\n", v.Version, dash(v.FilterHash), v.Go, v.Platform)
		return err
	}
	return cmd
}

package main

import "github.com/seawall-mesh/seawall/controlplane/cli"

// wire gives the commands the parts that they run. They are named here and not
// in package cli, so that its tests need no Envoy.
func wire(*cli.Env) {}

//go:build wasip1 && !trapdoor

package main

import (
	"github.com/seawall-mesh/seawall/filter/abi"
	"github.com/seawall-mesh/seawall/filter/plugin"
)

func init() { abi.Serve(plugin.New(abi.Host{})) }

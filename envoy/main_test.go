package envoy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/envoy"
)

// helperEnv makes the test binary act as a launcher that somebody kills: its
// value is the JSON of a helperConfig.
const helperEnv = "SEAWALL_ENVOY_TEST_HELPER"

type helperConfig struct {
	Binary envoy.Binary
	Data   string
	Module envoy.Module
	Boot   envoy.BootstrapConfig
}

func TestMain(m *testing.M) {
	if raw := os.Getenv(helperEnv); raw != "" {
		os.Exit(helper(raw)) //nolint:forbidigo // this is the helper's main
	}
	goleak.VerifyTestMain(m)
}

// helper starts an Envoy, prints its pid, and waits to be killed.
func helper(raw string) int {
	var cfg helperConfig
	if err := json.Unmarshal([]byte(raw), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := envoy.Start(context.Background(), envoy.Config{
		Log: slog.New(slog.DiscardHandler), Binary: cfg.Binary, DataDir: cfg.Data, Module: cfg.Module, Bootstrap: cfg.Boot,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.Status().PID)
	<-time.After(time.Minute) // killed long before; the end of a helper nobody kills
	return 1
}

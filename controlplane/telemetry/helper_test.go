package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// helperPath makes the test binary serve batches from a store in that file
// instead of testing, so that tests can kill it or take its disk away.
const (
	helperPath = "SEAWALL_TEST_HELPER"
	limitPath  = "/limit/"
)

func helper() bool {
	path := os.Getenv(helperPath)
	if path == "" {
		return false
	}
	if err := serveHelper(path); err != nil {
		panic(err)
	}
	return true
}

func serveHelper(path string) error {
	// Without this a write beyond the limit would end the process; a full disk
	// does not.
	signal.Ignore(syscall.SIGXFSZ)
	store, err := sqlite.Open(context.Background(), path)
	if err != nil {
		return err
	}
	ingest := telemetry.New(telemetry.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Store: store, Now: time.Now})
	mux := http.NewServeMux()
	mux.Handle("/v1/", ingest.Handler())
	mux.HandleFunc(limitPath+"{bytes}", func(w http.ResponseWriter, r *http.Request) {
		var limit syscall.Rlimit
		err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit)
		if err == nil {
			_, err = fmt.Sscan(r.PathValue("bytes"), &limit.Cur)
		}
		if err == nil {
			err = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, mux) //nolint:gosec // a test's own server
}

// Package demo is `seawall demo`: the payment service of the example policies
// behind a real Envoy. Act by act it breaks the service's world, says what
// should happen, makes it happen, shows what the client and the upstream saw,
// and checks it. It uses the product as a user does: policy files, the data
// plane's address, the API.
//
// It may import app, the example policies and testenv/upstream, and is
// imported by cmd/seawall only.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/app"
	"github.com/seawall-mesh/seawall/policies"
	"github.com/seawall-mesh/seawall/testenv/upstream"
)

// Options say how the demo is run and shown. All but Keep and Colour are
// required.
type Options struct {
	Keep      bool   // go on serving after the last act, until ctx ends
	DataPlane string // auto | envoy
	Colour    bool   // Stdout understands ANSI colours
	Log       *slog.Logger
	Stdout    io.Writer
	Version   string
}

// ErrBroken says that something did not go as promised.
var ErrBroken = errors.New("an act did not go as promised")

// demoRecovery stands in for the example's 60 s, so that nobody has to wait.
const demoRecovery = 3 * time.Second

// Run plays all acts. The error is ErrBroken where a check failed, and another
// where the demo could not go on.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "seawall-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	up, err := upstream.New(upstream.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = up.Close() }()
	file, err := writePolicy(filepath.Join(dir, "policies"), up.Addr())
	if err != nil {
		return err
	}

	screen := &screen{out: o.Stdout, colour: o.Colour}
	screen.title("Seawall %s: a payment service, and what happens to it", o.Version)
	screen.note("policy: policies/payments/payments.yaml, with the recovery time of `charge` cut from 60 s to %s", demoRecovery)
	screen.note("starting a control plane and an Envoy …")

	running, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan app.Addresses, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- app.RunNotify(running, app.Options{
			PolicyPaths: []string{filepath.Dir(file)}, DataPlane: o.DataPlane,
			Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", XDS: "127.0.0.1:0", Telemetry: "127.0.0.1:0",
			DataDir: filepath.Join(dir, "data"), Workers: 2, Log: o.Log, Stdout: io.Discard, Version: o.Version,
		}, func(a app.Addresses) { ready <- a })
	}()
	select {
	case a := <-ready:
		w := &world{screen: screen, up: up, policy: file, client: newClient(a.Listen), admin: a.Admin}
		screen.note("data plane http://%s/   admin http://%s/", a.Listen, a.Admin)
		err = w.play(ctx)
		w.client.close()
		if err == nil && o.Keep {
			screen.note("still serving, until Ctrl-C; try: curl -H 'Host: payments.local' http://%s/v1/payments/42", a.Listen)
			select {
			case <-ctx.Done():
			case err = <-ended:
				return err
			}
		}
	case err := <-ended:
		return err
	}
	stop()
	return errors.Join(err, <-ended)
}

// writePolicy puts the example policy, pointed at the upstream, where it can be
// edited, and returns its file.
func writePolicy(dir, upstreamAddr string) (string, error) {
	text, err := policies.FS.ReadFile("payments/payments.yaml")
	if err != nil {
		return "", err
	}
	port := upstreamAddr[strings.LastIndexByte(upstreamAddr, ':')+1:]
	if _, err := strconv.Atoi(port); err != nil {
		return "", fmt.Errorf("upstream address %s: %w", upstreamAddr, err)
	}
	edited := string(text)
	for _, change := range [][2]string{{"port: 9001", "port: " + port}, {"recoveryTimeout: 60s", "recoveryTimeout: " + demoRecovery.String()}} {
		if edited, err = replaceOnce(edited, change[0], change[1]); err != nil {
			return "", err
		}
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "payments.yaml")
	return file, os.WriteFile(file, []byte(edited), 0o600)
}

// replaceOnce changes the first occurrence of old. That there is one is
// checked: the acts would prove nothing on a policy that was not changed.
func replaceOnce(text, old, replacement string) (string, error) {
	if !strings.Contains(text, old) {
		return "", fmt.Errorf("the example policy no longer says %q", old)
	}
	return strings.Replace(text, old, replacement, 1), nil
}

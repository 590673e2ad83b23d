// Package config reads what a control plane needs beside policies: the file of
// --config. Secrets are named by file, never written into it.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 4096

// Config is the file. Everything in it may be left out.
type Config struct {
	// Alertmanager is told of alerts.
	Alertmanager *Alertmanager `json:"alertmanager,omitempty"`
	// Webhooks are told of alerts that begin and end.
	Webhooks []Webhook `json:"webhooks,omitempty"`
	// ProblemTypeBase is the prefix of problem types; default
	// https://seawall-mesh.github.io/problems/.
	ProblemTypeBase string `json:"problemTypeBase,omitempty" policy:"format=url"`

	// hooks are Webhooks with their secrets.
	hooks []alert.Webhook
}

// Alertmanager is where its API is.
type Alertmanager struct {
	// URLs of all replicas, without /api/v2: each is told everything.
	URLs []string `json:"urls" policy:"required,format=url"`
}

// Webhook is one receiver of signed messages.
type Webhook struct {
	URL string `json:"url" policy:"required,format=url"`
	// SecretFile holds the secret that signs, as whsec_ and base64 of 24 to 64
	// bytes; without one, messages are not signed. Relative to the file that
	// names it.
	SecretFile string `json:"secretFile,omitempty" policy:"nonempty"`

	Pos diag.Pos `json:"-"`
}

// RefusedError is a file with findings.
type RefusedError struct{ findings diag.List }

// Error is one line; the findings say the rest.
func (e *RefusedError) Error() string { return "the file of --config has errors" }

// Hint says what to do.
func (e *RefusedError) Hint() string { return "mend it, or start without --config" }

// Diagnostics are the findings.
func (e *RefusedError) Diagnostics() diag.List { return e.findings }

// Load reads the file; "" is an empty one. The error is a *RefusedError, with
// all findings at once.
func Load(name string) (Config, error) {
	var c Config
	if name == "" {
		return c, nil
	}
	findings := policy.ReadDocument(name, &c)
	for _, w := range c.Webhooks {
		secret, err := w.secret(filepath.Dir(name))
		if err != nil {
			d := diag.New(diag.SecretUnusable, w.Pos, "webhooks.secretFile", fmt.Sprintf("secret file %s: %v", w.SecretFile, err))
			d.Hint = "openssl rand -base64 32 makes one; only its owner should be able to read the file"
			findings = append(findings, d)
		}
		c.hooks = append(c.hooks, alert.Webhook{URL: w.URL, Secret: secret})
	}
	if findings.HasErrors() {
		return Config{}, &RefusedError{findings.Compact()}
	}
	if c.ProblemTypeBase != "" && !strings.HasSuffix(c.ProblemTypeBase, "/") {
		c.ProblemTypeBase += "/"
	}
	return c, nil
}

// AlertWebhooks are the webhooks with their secrets.
func (c Config) AlertWebhooks() []alert.Webhook { return c.hooks }

// AlertmanagerURLs are those to be told; none without Alertmanager.
func (c Config) AlertmanagerURLs() []string {
	if c.Alertmanager == nil {
		return nil
	}
	return c.Alertmanager.URLs
}

func (w Webhook) secret(dir string) ([]byte, error) {
	if w.SecretFile == "" {
		return nil, nil
	}
	name := w.SecretFile
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	info, err := os.Stat(name)
	switch pe, isPath := errors.AsType[*fs.PathError](err); {
	case isPath:
		return nil, pe.Err
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() && info.Mode()&fs.ModeNamedPipe == 0:
		return nil, errors.New("not a file")
	case info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("anybody may read it (mode %04o)", info.Mode().Perm())
	case info.Size() > maxSecret:
		return nil, errors.New("too large for a secret")
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, errors.New("cannot be read")
	}
	return alert.ParseSecret(string(text))
}

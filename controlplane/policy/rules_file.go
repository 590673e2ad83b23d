package policy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// maxCertBytes bounds a certificate file: the whole list of a system is 200 KiB.
const maxCertBytes = 1 << 20

// fileRules reads the certificates that listeners and services name, and makes
// their names absolute.
func fileRules(objects []*object) {
	for _, o := range objects {
		switch o.kind {
		case KindEdge:
			e := o.value.Addr().Interface().(*Edge)
			for i := range e.Spec.Listeners {
				keyPair(o, fmt.Sprintf("spec.listeners[%d].tls", i), e.Spec.Listeners[i].TLS)
			}
		case KindService:
			s := o.value.Addr().Interface().(*Service)
			authority(o, "spec.tls", s.Spec.TLS)
		}
	}
}

func keyPair(o *object, path string, t *ListenerTLS) {
	if t == nil || o.isBad(path) {
		return
	}
	cert, certRead := namedFile(o, path+".certFile", &t.CertFile)
	key, keyRead := namedFile(o, path+".keyFile", &t.KeyFile)
	if !certRead || !keyRead {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		o.fail(diag.BadCertificate, path+".certFile", "", "no certificate with its key: %s", err)
	}
}

func authority(o *object, path string, t *ServiceTLS) {
	if t == nil || o.isBad(path) || t.CA == SystemCA {
		return
	}
	text, read := namedFile(o, path+".ca", &t.CA)
	if read && !x509.NewCertPool().AppendCertsFromPEM(text) {
		o.fail(diag.BadCertificate, path+".ca", "", "the file has no certificate in PEM")
	}
}

// namedFile reads what the field at path names. A file that is not here may be where
// the Envoy runs, so that is not an error.
func namedFile(o *object, path string, name *string) (content []byte, read bool) {
	if !filepath.IsAbs(*name) {
		abs, err := filepath.Abs(filepath.Join(filepath.Dir(o.place(path).File), *name))
		if err != nil {
			o.fail(diag.FileNotHere, path, "write an absolute name", "%s: %s", *name, err)
			return nil, false
		}
		*name = abs
	}
	*name = filepath.Clean(*name)
	content, err := readSmall(*name)
	if err != nil {
		o.fail(diag.FileNotHere, path, "", "%s cannot be read here: %s", *name, plain(err))
		return nil, false
	}
	return content, true
}

// plain is an error without the file's name, which stands beside it.
func plain(err error) error {
	if about, ok := errors.AsType[*os.PathError](err); ok {
		return about.Err
	}
	return err
}

func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxCertBytes+1))
	if err == nil && len(content) > maxCertBytes {
		err = errors.New("it is larger than 1 MiB")
	}
	return content, err
}

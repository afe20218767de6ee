// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/kms"
)

// A forgetful admin adds a principal and then fails.
type forgetful struct {
	kmsAdmin
	// asked is called when the list is asked for.
	asked func()
}

var errForgot = errors.New("the service is gone")

func (f forgetful) ListPrincipals(context.Context) ([]kms.PrincipalInfo, error) {
	f.asked()
	return nil, errForgot
}

// TestAddedKeyIsNotLost: the secret is written also if nothing else can be learnt
// of the principal, and before it is asked for.
func TestAddedKeyIsNotLost(t *testing.T) {
	credentials := kms.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "secret"}
	p := kms.Principal{Type: kms.Role, Name: "worker"}
	for _, asJSON := range []bool{false, true} {
		for _, toFile := range []bool{false, true} {
			var stdout, stderr bytes.Buffer
			env := &cli.Env{Stdout: &stdout, Stderr: &stderr}
			var file *os.File
			name := filepath.Join(t.TempDir(), "out")
			if toFile {
				var err error
				if file, err = os.Create(name); err != nil {
					t.Fatal(err)
				}
			}
			written := func() string {
				if toFile {
					data, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					return string(data)
				}
				return stdout.String()
			}
			admin := forgetful{asked: func() {
				if !asJSON && !strings.Contains(written(), "SECRET_ACCESS_KEY='secret'") {
					t.Errorf("the list is asked for before the key is written: %q", written())
				}
			}}
			err := showAdded(t.Context(), env, &principalFlags{json: asJSON}, file, admin, &p, credentials)
			if !errors.Is(err, errForgot) || !strings.Contains(written(), "secret") || toFile && stdout.Len() > 0 {
				t.Errorf("json %v, file %v: %v, %q", asJSON, toFile, err, written())
			}
			if strings.Contains(err.Error()+stderr.String(), "secret'") {
				t.Errorf("the secret is in an error")
			}
			if asJSON {
				var added addedPrincipal
				if err := json.Unmarshal([]byte(written()), &added); err != nil || added.Name != "worker" || added.Type != kms.Role || added.ARN != "" {
					t.Errorf("%+v, %v", added, err)
				}
			}
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

// TestAddedKeyCannotBeWritten: it is said how to remove what nobody can use.
func TestAddedKeyCannotBeWritten(t *testing.T) {
	var stderr bytes.Buffer
	env := &cli.Env{Stdout: full{}, Stderr: &stderr}
	err := showAdded(t.Context(), env, &principalFlags{}, nil, forgetful{asked: func() {}}, &kms.Principal{Name: "a"}, kms.Credentials{AccessKeyID: "AKIAEXAMPLE"})
	if code := env.Report(err); code != 1 || !strings.Contains(stderr.String(), "could not be written: no space") ||
		!strings.Contains(stderr.String(), "hint: 'cretula kms principal remove AKIAEXAMPLE' removes it") {
		t.Errorf("%d %s", code, &stderr)
	}
}

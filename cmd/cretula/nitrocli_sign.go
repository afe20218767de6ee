// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/internal/nitrocli"
	"github.com/cretula/cretula/internal/signkey"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// nitroMeasurements is what building and signing print.
type nitroMeasurements struct{ Measurements pcr.Measurements }

// A nitroSigner is what --signing-certificate and --private-key name.
type nitroSigner struct {
	certificate []byte
	key         crypto.Signer
	io.Closer
}

// openNitroSigner opens certificate and key, or returns nil if neither is given.
// One without the other is E01, as there.
func openNitroSigner(ctx context.Context, env *cli.Env, call *nitrocli.Call) (*nitroSigner, error) {
	certificate, hasCertificate := call.Get("signing-certificate")
	key, hasKey := call.Get("private-key")
	switch {
	case !hasCertificate && !hasKey:
		return nil, nil
	case !hasKey:
		return nil, missingArgument("private-key")
	case !hasCertificate:
		return nil, missingArgument("signing-certificate")
	}
	data, err := env.ReadInput(certificate, maxCertificateFile)
	if err != nil {
		return nil, nitroFail(nitrocli.ImageSigning, err)
	}
	lint, err := eif.LintCertificate(data, env.Now())
	if err != nil {
		return nil, nitroFail(nitrocli.ImageSigning, inFile(certificate, err))
	}
	for _, p := range lint.Problems {
		if p.Reason == reason.Untrusted {
			// nitro-cli signs with it and says nothing.
			nitroWarn(env, p.Message)
		}
	}
	signer, closer, err := signkey.Open(ctx, signkey.Spec{Key: key, Warn: func(message string) { nitroWarn(env, message) }})
	if err != nil {
		return nil, nitroFail(nitrocli.ImageSigning, err)
	}
	return &nitroSigner{data, signer, closer}, nil
}

func missingArgument(option string) error {
	return nitrocli.Failf(nitrocli.MissingArgument, "`%s` was not given", option)
}

func nitroWarn(env *cli.Env, message string) {
	fmt.Fprintf(env.Stderr, "warning: %s\n", cli.Printable(message))
}

// nitroSignEIF signs an image in place: it is replaced when the signed one is
// complete, and otherwise stays as it was.
func nitroSignEIF(ctx context.Context, env *cli.Env, call *nitrocli.Call) error {
	name, given := call.Get("eif-path")
	if !given {
		return missingArgument("eif-path")
	}
	signer, err := openNitroSigner(ctx, env, call)
	if err != nil {
		return err
	}
	if signer == nil {
		return missingArgument("signing-certificate")
	}
	defer signer.Close()
	im, f, err := openImage(name)
	if err != nil {
		return nitroFileFail(err)
	}
	defer f.Close()
	measurements, err := im.Measure(ctx)
	if err != nil {
		return nitroFileFail(inFile(name, err))
	}
	pcr0, _ := measurements.Get(0)
	section, err := eif.SignSection(ctx, signer.certificate, pcr0, signer.key, nil)
	if err != nil {
		return nitroFail(nitrocli.ImageSigning, err)
	}
	err = durable.Replace(name, 0o644, func(w *os.File) (err error) {
		measurements, err = im.WriteSigned(ctx, w, section)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return nitroFileFail(inFile(name, err))
	}
	fmt.Fprintln(env.Stderr, "Enclave Image successfully signed.")
	return nitroPrint(env, nitroMeasurements{measurements})
}

// nitroFileFail is E35 for an image that is refused, E19 for a file that cannot be
// read or written.
func nitroFileFail(err error) error {
	if _, refused := reason.Of(err); refused {
		return nitroFail(nitrocli.ImageParsing, err)
	}
	return nitroFail(nitrocli.FileOperation, err)
}

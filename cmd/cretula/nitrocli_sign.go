// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/nitrocli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// nitroMeasurements is what building and signing print.
type nitroMeasurements struct{ Measurements pcr.Measurements }

// A nitroSigner is what --signing-certificate and --private-key name.
type nitroSigner struct {
	certificate []byte
	crypto.Signer
	io.Closer
	// failed tells that an image was not signed because of the key.
	failed bool
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
	// nitro-cli signs with a certificate that has expired, and says nothing.
	data, lint, err := (&certificateFlags{file: certificate, allowExpired: true}).read(env)
	if err != nil {
		return nil, nitroFail(nitrocli.ImageSigning, err)
	}
	for _, p := range lint.Problems {
		fmt.Fprintf(env.Stderr, "cretula: warning: %s\n", cli.Printable(p.Message))
	}
	signer, closer, err := (&keyFlags{key: key}).open(ctx, env)
	if err != nil {
		return nil, nitroFail(nitrocli.ImageSigning, err)
	}
	if err := eif.CheckSigner(lint.Certificate, signer); err != nil {
		closer.Close()
		return nil, nitroFail(nitrocli.ImageSigning, hintKey(err))
	}
	return &nitroSigner{certificate: data, Signer: signer, Closer: closer}, nil
}

// Sign implements [crypto.Signer].
func (s *nitroSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.Signer.Sign(rand, digest, opts)
	s.failed = err != nil
	return signature, err
}

func missingArgument(option string) error {
	return nitrocli.Failf(nitrocli.MissingArgument, "`%s` was not given", option)
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
	done, err := resignImage(ctx, env, name, "", func(pcr0 pcr.Digest) ([]byte, error) {
		section, err := eif.SignSection(ctx, signer.certificate, pcr0, signer, nil)
		if err != nil {
			return nil, nitroFail(nitrocli.ImageSigning, err)
		}
		return section, nil
	})
	if err != nil {
		return nitroFileFail(err)
	}
	fmt.Fprintln(env.Stderr, "Enclave Image successfully signed.")
	return nitroPrint(env, nitroMeasurements{done.measurements})
}

// nitroFileFail is E35 for an image that is refused and E19 for a file that cannot
// be read or written, unless the error has a code.
func nitroFileFail(err error) error {
	if _, coded := errors.AsType[*nitrocli.Error](err); coded {
		return err
	}
	if _, refused := reason.Of(err); refused {
		return nitroFail(nitrocli.ImageParsing, err)
	}
	return nitroFail(nitrocli.FileOperation, err)
}

// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"fmt"
	"regexp"
)

var (
	roleARN    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}$`)
	instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)
)

// Role returns PCR3 of an enclave whose parent instance has the IAM role of
// that ARN: H(Z ‖ ARN). Source: AWS Nitro Enclaves User Guide, "Where to get an
// enclave's measurements".
func Role(arn string) (Digest, error) {
	if !roleARN.MatchString(arn) {
		return Digest{}, fmt.Errorf("pcr: %q is no ARN of an IAM role", arn)
	}
	return Digest{}.Extend([]byte(arn)), nil
}

// Instance returns PCR4 of an enclave on the parent instance of that id, such as
// i-1234567890abcdef0: H(Z ‖ id). Source as for [Role].
func Instance(id string) (Digest, error) {
	if !instanceID.MatchString(id) {
		return Digest{}, fmt.Errorf("pcr: %q is no instance id: want i- and 17 lower-case hex digits", id)
	}
	return Digest{}.Extend([]byte(id)), nil
}

// Measured returns the value of a register into which the hash of content was
// extended, H(Z ‖ H(content)): what PCR0, PCR1 and PCR2 are, contentHash being
// the SHA-384 over the sections concerned.
func Measured(contentHash Digest) Digest { return Digest{}.Extend(contentHash[:]) }

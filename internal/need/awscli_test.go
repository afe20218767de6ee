// SPDX-License-Identifier: Apache-2.0

package need

import "testing"

func TestRecentAWSCLI(t *testing.T) {
	for version, want := range map[string]bool{
		"aws-cli/1.45.11 Python/3.11.7 Linux/6.18.44 botocore/1.43.11\n": true,
		"aws-cli/2.20.0 Python/3.12.6 Linux/6.1.0 exe/x86_64.debian.12":  true,
		"aws-cli/3.0.0 Python/3.14.0":                                    true,
		"aws-cli/2.9.19 Python/3.11.2 Linux/6.18.44 prompt/off":          false,
		"aws-cli/1.35.24 Python/3.11.7":                                  false,
		"aws-cli/x":                                                      false,
		"":                                                               false,
	} {
		if got := recentAWSCLI(version); got != want {
			t.Errorf("%q: %v, want %v", version, got, want)
		}
	}
}

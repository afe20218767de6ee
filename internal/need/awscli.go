// SPDX-License-Identifier: Apache-2.0

package need

import (
	"fmt"
	"os/exec"
	"testing"
)

// AWSCLI wants an AWS CLI that reads the endpoints of services from the environment
// and files into members of structures ("@="): 2.20 or 1.36, of November 2024, or
// later. Debian 12 has an older one.
func AWSCLI(t testing.TB) {
	t.Helper()
	out, err := exec.Command(Program(t, "aws"), "--version").CombinedOutput()
	if err != nil {
		t.Fatalf("aws --version: %v\n%s", err, out)
	}
	if !recentAWSCLI(string(out)) {
		missing(t, fmt.Sprintf("AWS CLI 2.20 or 1.36, or later; this is %.40q", out))
	}
}

// recentAWSCLI reports whether the answer to --version is that of such a one.
func recentAWSCLI(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "aws-cli/%d.%d", &major, &minor); err != nil {
		return false
	}
	return major == 1 && minor >= 36 || major == 2 && minor >= 20 || major > 2
}

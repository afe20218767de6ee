// SPDX-License-Identifier: Apache-2.0

package nitrocli

// Commands are nitro-cli's, in the order of its help.
var Commands = []Command{
	{"run-enclave", "Starts an enclave; needs a Nitro host, so is refused", []Option{
		{Name: "cpu-ids", Help: "CPUs that the enclave gets", Many: true, Required: true, Unless: []string{"cpu-count", "config"}, Conflicts: []string{"cpu-count", "config"}},
		{Name: "cpu-count", Help: "Number of CPUs that the enclave gets", Required: true, Unless: []string{"cpu-ids", "config"}, Conflicts: []string{"cpu-ids", "config"}},
		{Name: "memory", Help: "Memory of the enclave in MiB; a suffix G or T takes larger units", Required: true, Unless: []string{"config"}, Conflicts: []string{"config"}},
		{Name: "eif-path", Help: "Image to start", Required: true, Unless: []string{"config"}, Conflicts: []string{"config"}},
		{Name: "enclave-cid", Help: "Context id of the enclave; 0 takes a free one", Conflicts: []string{"config"}},
		{Name: "debug-mode", Help: "Make the console readable, and PCR0 to PCR2 zero", Switch: true, Conflicts: []string{"config"}},
		{Name: "attach-console", Help: "Read the console from the start; implies --debug-mode", Switch: true},
		{Name: "enclave-name", Help: "Name of the enclave", Conflicts: []string{"config"}},
		{Name: "config", Help: "JSON file with these arguments"},
	}},
	{"terminate-enclave", "Ends an enclave; needs a Nitro host, so is refused", []Option{
		{Name: "enclave-id", Help: "Id of the enclave", Required: true, Unless: []string{"all", "enclave-name"}, Conflicts: []string{"all", "enclave-name"}},
		{Name: "all", Help: "End all enclaves of this user", Switch: true, Required: true, Unless: []string{"enclave-id", "enclave-name"}, Conflicts: []string{"enclave-id", "enclave-name"}},
		{Name: "enclave-name", Help: "Name of the enclave", Required: true, Unless: []string{"enclave-id", "all"}, Conflicts: []string{"enclave-id", "all"}},
	}},
	{"build-enclave", "Builds an enclave image, without Docker", []Option{
		{Name: "docker-uri", Help: "Image: in a registry, or a path of an archive, an OCI layout or a folder", Required: true},
		{Name: "docker-dir", Help: "Refused: Dockerfiles are built by other tools"},
		{Name: "output-file", Help: "File to write", Required: true},
		{Name: "signing-certificate", Help: "Certificate to sign with, a PEM file"},
		{Name: "private-key", Help: "Its key: a PEM file, or the ARN of a KMS key"},
		{Name: "name", Help: "Name of the image"},
		{Name: "version", Help: "Version of the image"},
		{Name: "metadata", Help: "JSON file with custom metadata"},
	}},
	{"describe-eif", "Describes an enclave image", []Option{
		{Name: "eif-path", Help: "Image to describe", Required: true},
	}},
	{"describe-enclaves", "Lists the running enclaves; needs a Nitro host, so is refused", []Option{
		{Name: "metadata", Help: "With the metadata of their images", Switch: true},
	}},
	{"console", "Reads the console of an enclave; needs a Nitro host, so is refused", []Option{
		{Name: "enclave-id", Help: "Id of the enclave", Required: true, Unless: []string{"enclave-name"}, Conflicts: []string{"enclave-name"}},
		{Name: "disconnect-timeout", Help: "Seconds until the console is left"},
		{Name: "enclave-name", Help: "Name of the enclave", Required: true, Unless: []string{"enclave-id"}, Conflicts: []string{"enclave-id"}},
	}},
	{"pcr", "Computes a register of a file or a certificate", []Option{
		{Name: "signing-certificate", Help: "PEM file; prints PCR8 of what is signed with it", Required: true, Unless: []string{"input"}, Conflicts: []string{"input"}},
		{Name: "input", Help: "File; prints the register that its bytes would give", Required: true, Unless: []string{"signing-certificate"}, Conflicts: []string{"signing-certificate"}},
	}},
	{"explain", "Explains an error code", []Option{
		{Name: "error-code", Help: "Code, as E35", Required: true},
	}},
	{"sign-eif", "Signs an enclave image", []Option{
		{Name: "eif-path", Help: "Image to sign, in place", Expected: true},
		{Name: "signing-certificate", Help: "Certificate to sign with, a PEM file", Expected: true},
		{Name: "private-key", Help: "Its key: a PEM file, or the ARN of a KMS key", Expected: true},
	}},
}

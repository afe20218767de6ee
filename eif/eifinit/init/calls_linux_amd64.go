// SPDX-License-Identifier: Apache-2.0

package main

const sysFinitModule = 313 // finit_module(2)

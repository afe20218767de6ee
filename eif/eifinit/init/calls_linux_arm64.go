// SPDX-License-Identifier: Apache-2.0

package main

const sysFinitModule = 273 // finit_module(2)

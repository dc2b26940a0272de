// Package mar reads, writes, signs, verifies and lints MAR archives, the container of Mozilla's application
// updates.
package mar

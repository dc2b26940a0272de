// Package senbonzakura makes partial updates of Gecko-based products as one call: the addresses and hashes of two
// complete updates in, the partial update that turns the one installation into the other out.
//
//	result, err := generator.Generate(ctx, senbonzakura.Request{
//		From: senbonzakura.Source{URLs: []string{"https://…/153.5.1.complete.mar"}, Hashes: …},
//		To:   senbonzakura.Source{URLs: []string{"https://…/153.6.0.complete.mar"}, Hashes: …},
//	}, nil)
//
// A [Generator] fetches both completes (package fetch), reads off them what the old version's updater understands
// (package toolchain), makes the update and proves that it turns FROM into TO (package partial), signs it (package mar)
// and stores it (package cache). Everything on the way is cached by what it was made from: the same request is made
// once, however many ask and whenever, and a file that did not change between two locales is diffed once for both.
//
// Every package below can be used without this one.
package senbonzakura

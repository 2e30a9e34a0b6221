// etcdctl of the 3.4 line, the oldest client that compatibility runs look at. A module of its own, because it
// needs a gRPC library of its time.
package main

import "go.etcd.io/etcd/etcdctl/ctlv3"

func main() {
	ctlv3.Start()
}

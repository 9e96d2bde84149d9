// Command etcd is etcd itself. Its module can't be installed by its path (go install
// refuses one whose go.mod replaces others), so this program requires it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}

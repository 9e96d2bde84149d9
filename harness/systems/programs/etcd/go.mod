module splitbrain/etcd

go 1.21

module primary

go 1.21

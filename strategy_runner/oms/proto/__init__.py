"""The OMS service over gRPC: oms.proto, and what protoc makes of it (the command stands in oms.proto). Never edited by hand."""

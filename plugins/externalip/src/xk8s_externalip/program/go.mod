module xk8s.invalid/loadbalancer

go 1.26.0

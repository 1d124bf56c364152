module xk8s.invalid/sessions

go 1.26.0

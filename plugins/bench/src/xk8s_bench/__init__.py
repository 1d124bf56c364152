"""Comparisons of this project's ways of doing things, measured side by side: `xk8s bench`.

A comparison (`xk8s_bench.comparison`) has series that are run in turn in a laboratory of its own
(`xk8s_bench.lab`); what came out is a value with a JSON form (`xk8s_bench.result`), from which the
picture is drawn (`xk8s_bench.draw`).
"""

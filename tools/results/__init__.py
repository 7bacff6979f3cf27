"""The page of results: what the showpiece found, in words that are made from its data set.

python -m tools.results              make the pages anew from docs/results/data
python -m tools.results --from DIR   take the data set from what benchmarks/showpiece.py left
"""

"""Comparisons of hybridcore with other caches; README.md tells what the numbers do not say."""

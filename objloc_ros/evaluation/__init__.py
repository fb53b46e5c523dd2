"""Measuring the methods: metrics, held-out scenes, recordings."""

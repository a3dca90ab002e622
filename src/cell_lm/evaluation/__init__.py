"""Evaluation that every task, report and benchmark shares: metrics, and the linear head that judges embeddings."""

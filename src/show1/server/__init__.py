"""Serving: durable jobs, workers that compute them, the API and the page; installed by the extra `show1[server]`."""

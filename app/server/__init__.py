"""What the server does beside the page: workspaces, limits, jobs, pictures, cleaning up."""

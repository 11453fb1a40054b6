"""The pages of a service for people: templates, static files, and what they show. A private lab loads none of it."""
